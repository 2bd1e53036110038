"""What the fault harness found, each as a small test of its own."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from backattn.common.atomic_files import discard_folder, write_whole
from backattn.common.errors import StoreError, UnreadableError
from backattn.features import build
from backattn.features.check import check
from backattn.features.plan import make_plan
from backattn.store import reader, writer
from backattn.store.reader import StoreReader
from fakes import FakeTranslator, make_corpus, make_recipe
from store_samples import make_entries, write

TEXTS = [f"{'word ' * (i % 7)}sentence {i}" for i in range(40)]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model files for the digests, and small shards."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "SHARD_TOKENS", 30)
    for name in ("translator/checkpoint.pt", "english/tagger.pt"):
        (tmp_path / "toy" / name).parent.mkdir(parents=True)
        (tmp_path / "toy" / name).write_text(name)


def test_a_store_that_the_machine_does_not_let_us_read_is_not_called_corrupt_and_no_shard_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = make_plan(make_recipe(), make_corpus(TEXTS))
    with pytest.raises(KeyboardInterrupt):
        build.build_translations(plan.translation, lambda: FakeTranslator(stop_after=20), "cpu")
    shards = sorted(plan.translation.shards.glob("*.h5"))
    assert len(shards) >= 2

    def refuse(file: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(reader, "check_seal", refuse)
        with pytest.raises(UnreadableError, match=r"cannot be read \(Too many open files\); mend that"):
            build.build_translations(plan.translation, FakeTranslator, "cpu")
    assert sorted(plan.translation.shards.glob("*.h5")) == shards
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(reader, "check_seal", refuse)
        with pytest.raises(UnreadableError):
            check(plan)


def test_shards_that_a_kill_has_left_beside_their_store_are_cleared_away() -> None:
    plan = make_plan(make_recipe(), make_corpus(TEXTS))
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    plan.translation.shards.mkdir()
    joined = StoreReader(plan.translation.path)
    (plan.translation.shards / f"{16 * '0'}.h5").write_bytes(joined.path.read_bytes())
    assert build.build_translations(plan.translation, FakeTranslator, "cpu").computed == 0
    assert not plan.translation.shards.exists()


def test_a_link_to_nowhere_among_the_shards_is_no_obstacle() -> None:
    plan = make_plan(make_recipe(), make_corpus(TEXTS))
    plan.translation.shards.mkdir(parents=True)
    (plan.translation.shards / "gone.h5").symlink_to("nowhere")
    build.build_translations(plan.translation, FakeTranslator, "cpu")


def test_a_disk_that_refuses_the_hdf5_library_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library never learns of it: it would print tracebacks from deep within, and keep the file open."""
    path = write(tmp_path / "store.h5", make_entries([2, 3]))
    before = path.read_bytes()

    class FullDisk(writer._Disk):
        def write(self, data: object) -> int:
            self._failure = self._failure or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(writer, "_Disk", FullDisk)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\); free space"):
        write(path, make_entries([4, 5]))
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.glob("store*")) == ["store.h5"]
    assert capfd.readouterr() == ("", "")


def test_no_thread_is_started_for_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is too short for a thread to begin, Python can wait for ever for it to say that it has."""

    def refuse(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread} was started")

    monkeypatch.setattr(writer, "_AHEAD_BYTES", 10)  # so that the disk is asked for after every block
    monkeypatch.setattr(threading.Thread, "start", refuse)
    plan = make_plan(make_recipe(), make_corpus(TEXTS))
    assert build.build_translations(plan.translation, FakeTranslator, "cpu").computed > len(TEXTS)
    write(tmp_path / "store.h5", make_entries([2, 3] * 20))
    assert StoreReader(tmp_path / "store.h5").sentences == 40


def test_a_file_that_does_not_fit_is_named_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    write_whole(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"No space left on device: .*weights'$"):
        write_whole(path, b"new")
    assert [file.name for file in tmp_path.glob("weights*")] == ["weights"]
    assert path.read_bytes() == b"old"


def test_a_folder_goes_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "request.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # killed before it could
        discard_folder(work)
    assert not work.exists()
    discard_folder(work)
    assert not list(tmp_path.glob("work*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["recipes"]])
def test_output_to_a_full_disk_is_one_line(arguments: list[str]) -> None:
    code = "from backattn.cli import main; main()"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("backattn: output: No space left on device; mend that")
    assert done.stderr.count("\n") == 1


def test_a_training_killed_after_its_last_checkpoint_ends_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of the last epoch was missing for ever, and the finished run called damaged."""
    pytest.importorskip("torch")
    from backattn.tagger.run import RunFolder, read_run
    from backattn.tagger.run_spec import RunSpec
    from backattn.tagger.training import train_run
    from tagger.tagger_samples import TINY
    from tagger.tagger_samples import make_corpus as make_tagged

    spec = RunSpec(make_tagged(), TINY, "words", 3, {"corpus": "c"})
    plain = RunFolder.write_history

    def killed(files: RunFolder, history: tuple) -> None:
        if len(history) == TINY.epochs:
            raise SystemExit
        plain(files, history)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_history", killed)
        with pytest.raises(SystemExit):
            train_run(spec, tmp_path / "run")
    run = train_run(spec, tmp_path / "run")
    assert read_run(tmp_path / "run") == run
    assert len(run.history) == TINY.epochs


def test_an_interrupt_while_a_store_is_written_is_heard_and_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The HDF5 library loses one, or makes a TypeError of it. Here one comes at each 101st line of Python."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # which would be nearly all of the time
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    entries = make_entries([2, 3] * 20)
    path = write(tmp_path / "store.h5", entries)
    lines = count_lines(lambda: write(path, entries), None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for place in range(0, lines, 101):
            with pytest.raises(KeyboardInterrupt):
                count_lines(lambda: write(path, entries), place)
            assert StoreReader(path).sentences == len(entries)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not lost


def count_lines(run: Callable[[], object], place: int | None) -> int:
    """How many lines of Python (calls and returns too) a call runs; at one of them, Ctrl-C is pressed."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += 1
        if lines - 1 == place:
            signal.raise_signal(signal.SIGINT)
        return trace

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return lines
