"""What is received, or a user's own, is not followed, overwritten or deleted: links, pipes, folders."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from backattn.common import atomic_files
from backattn.common.atomic_files import new_partial, write_text, write_whole
from backattn.common.errors import BackattnError, ModelError, StoreError
from backattn.common.file_lock import writer_lock
from backattn.corpus.formats import read_corpus
from backattn.demo.sample import write_sample
from backattn.features import build
from backattn.features.gc import collect_garbage
from backattn.features.plan import Plan, make_plan
from backattn.recipe import load_recipe
from backattn.store.reader import StoreReader
from fakes import FakeTranslator, make_corpus, make_recipe
from store_samples import make_entries, write
from users_folder import build_stores, make_home, run

PRECIOUS = b"not to be lost\n"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A user's file, which must be what it was when the test ends."""
    path = tmp_path / "victim"
    path.write_bytes(PRECIOUS)
    yield path
    assert path.read_bytes() == PRECIOUS


@pytest.fixture
def album(tmp_path: Path) -> Iterator[Path]:
    """A user's folder with files that are called as the tool's are; likewise."""
    folder = tmp_path / "album"
    folder.mkdir()
    names = ["photo.jpg", "lock", "weights.safetensors", "0.h5", f"{16 * '0'}.h5", "x.h5.partial", "run.txt",
             f"{16 * '1'}.h5.01234567.partial", "recipe.json"]  # fmt: skip
    for name in names:
        (folder / name).write_bytes(PRECIOUS)
    yield folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict.fromkeys(names, PRECIOUS)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Of a recipe whose models are there; the fakes never open them."""
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path / "cache"))
    for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
        (tmp_path / "cache" / name).parent.mkdir(parents=True)
        (tmp_path / "cache" / name).write_text("model")
    return make_plan(make_recipe(), make_corpus(["a b c", "d e"]))


def translate(plan: Plan) -> build.Built:
    return build.build_translations(plan.translation, FakeTranslator, "cpu")


class TestLocks:
    def test_a_link(self, tmp_path: Path, victim: Path) -> None:
        (tmp_path / "a.lock").symlink_to(victim)
        told = r"a\.lock: is a link, expected a lock file; move it away"
        with pytest.raises(StoreError, match=told), writer_lock(tmp_path / "a.lock"):
            pass

    def test_a_link_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a.lock").symlink_to(tmp_path / "made")
        with pytest.raises(StoreError, match="is a link"), writer_lock(tmp_path / "a.lock"):
            pass
        assert not (tmp_path / "made").exists()

    def test_a_hard_link(self, tmp_path: Path, victim: Path) -> None:
        os.link(victim, tmp_path / "a.lock")
        with pytest.raises(StoreError, match="is a file of other content"), writer_lock(tmp_path / "a.lock"):
            pass

    def test_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.lock")
        begun = time.monotonic()
        with pytest.raises(StoreError, match="is a pipe or a device"), writer_lock(tmp_path / "a.lock"):
            pass
        assert time.monotonic() - begun < 1

    def test_a_socket_and_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as other:
            other.bind("a.lock")
            (tmp_path / "b.lock").mkdir()
            for name in ("a.lock", "b.lock"):
                with pytest.raises(StoreError, match="the lock cannot be made"), writer_lock(tmp_path / name):
                    pass

    @pytest.mark.parametrize(
        "left", [b"", bytes(40), b"process 1 on here\n", b"process 1 on here\n" + bytes(9)]
    )
    def test_what_a_power_cut_leaves_is_a_lock(self, tmp_path: Path, left: bytes) -> None:
        (tmp_path / "a.lock").write_bytes(left)
        with writer_lock(tmp_path / "a.lock"):
            assert (tmp_path / "a.lock").read_text().startswith(f"process {os.getpid()} on ")


class TestPartialFiles:
    @pytest.mark.parametrize(
        "act",
        [
            lambda path: write_whole(path, b"new"),
            lambda path: write_text(path, "new"),
            lambda path: write(path, make_entries([2, 3])),
        ],
        ids=["file", "report", "store"],
    )
    def test_a_link_at_the_name_of_old(
        self, tmp_path: Path, victim: Path, act: Callable[[Path], object]
    ) -> None:
        path = tmp_path / "report.md"
        path.with_name("report.md.partial").symlink_to(victim)
        act(path)
        assert path.exists()
        assert path.with_name("report.md.partial").is_symlink()

    def test_a_link_at_the_very_name(
        self, tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody who guesses it: another name is taken."""
        guessed = iter([".00000000", ".00000001"])
        monkeypatch.setattr(atomic_files, "_random", lambda: next(guessed))
        (tmp_path / "report.md.00000000.partial").symlink_to(victim)
        write_whole(tmp_path / "report.md", b"new")
        assert (tmp_path / "report.md").read_bytes() == b"new"

    @pytest.mark.parametrize("act", [lambda p: write_whole(p, b"new"), lambda p: write(p, make_entries([2]))])
    def test_a_link_at_the_final_name_is_replaced(
        self, tmp_path: Path, victim: Path, act: Callable[[Path], object]
    ) -> None:
        (tmp_path / "a").symlink_to(victim)
        act(tmp_path / "a")
        assert not (tmp_path / "a").is_symlink()

    def test_a_hard_link_at_the_final_name_is_replaced(self, tmp_path: Path, victim: Path) -> None:
        os.link(victim, tmp_path / "a")
        write_whole(tmp_path / "a", b"new")

    def test_the_sample_follows_none(self, tmp_path: Path, victim: Path) -> None:
        (tmp_path / "sample").mkdir()
        (tmp_path / "sample/german.train").symlink_to(victim)
        write_sample(tmp_path / "sample")

    def test_the_samples_folder_is_none(self, tmp_path: Path, album: Path) -> None:
        before = {path.name: path.read_bytes() for path in album.iterdir()}
        (tmp_path / "sample").symlink_to(album)
        with pytest.raises(OSError, match="is a link, expected a folder of the cache's own"):
            write_sample(tmp_path / "sample")
        assert {path.name: path.read_bytes() for path in album.iterdir()} == before

    def test_the_mode_is_that_of_any_new_file(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write_whole(tmp_path / "a", b"new")
            write(tmp_path / "b", make_entries([2]))
        finally:
            os.umask(before)
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640, 0o640]


class TestSideBySide:
    """Reports, pages and projections are written without a lock."""

    def test_all_succeed_and_readers_see_whole_files(self, tmp_path: Path) -> None:
        path, context = tmp_path / "report.md", get_context("fork")
        write_text(path, "0" * 300_000)
        writers = [context.Process(target=_write_often, args=(path, str(n))) for n in range(6)]
        for writer in writers:
            writer.start()
        seen, looked = set(), 0
        while any(writer.is_alive() for writer in writers) or looked < 10:
            text, looked = path.read_text(), looked + 1
            assert len(text) == 300_000
            assert len(set(text)) == 1
            seen.add(text[0])
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0] * 6
        assert len(seen) > 1
        assert [file.name for file in tmp_path.iterdir()] == ["report.md"]

    def test_a_killed_writers_leftover_goes_and_a_living_ones_stays(self, tmp_path: Path) -> None:
        path, context = tmp_path / "report.md", get_context("fork")
        killed = context.Process(target=_stop_inside, args=(path,))
        killed.start()
        assert killed.join() is None
        assert killed.exitcode == -signal.SIGKILL
        assert len(list(tmp_path.glob("report.md.*.partial"))) == 1
        write_whole(tmp_path / "other.md", b"")  # looks for its own only
        assert len(list(tmp_path.glob("report.md.*.partial"))) == 1
        with new_partial(path) as (partial, descriptor), open(descriptor, "wb") as file:
            write_whole(path, b"of another process")
            assert list(tmp_path.glob("report.md.*.partial")) == [partial]
            file.write(b"mine")
            file.flush()
            os.replace(partial, path)
        assert path.read_bytes() == b"mine"

    def test_two_that_look_for_leftovers_never_take_a_living_one(self, tmp_path: Path) -> None:
        """The writer's file may be looked at before it holds it: it takes another name then."""
        context, end = get_context("fork"), time.monotonic() + 2
        lookers = [context.Process(target=_look, args=(tmp_path, end)) for _ in range(2)]
        for looker in lookers:
            looker.start()
        written = 0
        while time.monotonic() < end:
            write_whole(tmp_path / "a", b"new")
            written += 1
        for looker in lookers:
            looker.join()
        assert written > 20
        assert [file.name for file in tmp_path.iterdir()] == ["a"]

    def test_what_is_no_leftover_stays(self, tmp_path: Path, victim: Path) -> None:
        (tmp_path / "a.01234567.partial").symlink_to(victim)
        (tmp_path / "a.notes.partial").write_text("mine")
        (tmp_path / "a.11111111.partial").mkdir()
        os.mkfifo(tmp_path / "a.22222222.partial")
        (tmp_path / "a.33333333.partial").write_bytes(b"half")
        write_whole(tmp_path / "a", b"new")
        assert sorted(path.name for path in tmp_path.glob("a*")) == [
            "a", "a.01234567.partial", "a.11111111.partial", "a.22222222.partial", "a.notes.partial"
        ]  # fmt: skip


def _write_often(path: Path, letter: str) -> None:
    for _ in range(30):
        write_text(path, letter * 300_000)


def _stop_inside(path: Path) -> None:
    with new_partial(path):
        os.kill(os.getpid(), signal.SIGKILL)


def _look(folder: Path, end: float) -> None:
    while time.monotonic() < end:
        atomic_files.remove_leftovers(folder)


class TestStageOne:
    def test_shards_that_are_a_link(self, plan: Plan, album: Path) -> None:
        plan.translation.shards.parent.mkdir(parents=True)
        plan.translation.shards.symlink_to(album)
        with pytest.raises(StoreError, match=r"\.shards: is a link, expected a folder of shards; remove the"):
            translate(plan)
        plan.translation.shards.unlink()
        translate(plan)
        plan.translation.shards.symlink_to(album)  # beside a finished store, where they would be cleared away
        with pytest.raises(StoreError, match="is a link"):
            translate(plan)

    def test_other_files_among_the_shards_stay(self, plan: Plan, victim: Path) -> None:
        plan.translation.shards.mkdir(parents=True)
        (plan.translation.shards / "notes.txt").write_text("mine")
        (plan.translation.shards / "mine.h5").write_text("mine")
        (plan.translation.shards / f"{16 * '0'}.h5").symlink_to(victim)
        translate(plan)
        assert len(list(plan.translation.shards.iterdir())) == 3

    def test_links_at_a_store_and_its_lock(self, plan: Plan, victim: Path) -> None:
        stage = plan.translation
        stage.path.parent.mkdir(parents=True)
        stage.path.with_name(f"{stage.path.name}.partial").symlink_to(victim)
        translate(plan)
        stage.lock.unlink()
        stage.lock.symlink_to(victim)
        with pytest.raises(StoreError, match="is a link, expected a lock file"):
            translate(plan)


class TestGc:
    def test_it_says_what_it_leaves_alone(self, plan: Plan, album: Path, victim: Path) -> None:
        translate(plan)
        folder = plan.translation.path.parent
        (folder / "2-000000000000.shards").symlink_to(album)
        (folder / "2-111111111111.h5").symlink_to(victim)
        (folder / "2-222222222222.lock").symlink_to(victim)
        (folder / "2-222222222222.h5").write_bytes(b"a store")
        (folder / "data.h5").write_bytes(b"mine")
        (folder / "2-333333333333.shards").mkdir()
        (folder / "2-333333333333.shards/notes.txt").write_text("mine")
        (folder / f"2-333333333333.shards/{16 * '0'}.h5").write_bytes(b"a shard")
        dry = collect_garbage(plan, others=True, dry_run=True)
        found = collect_garbage(plan, others=True, dry_run=False)
        assert found == dry
        assert {(Path(item.path).name, item.reason) for item in found if item.left} == {
            ("2-000000000000.shards", "a link, which gc does not follow"),
            ("2-111111111111.h5", "a link, which gc does not follow"),
            ("2-222222222222.lock", "a link, which gc does not follow"),
            ("data.h5", "not made by backattn"),
            ("notes.txt", "not made by backattn"),
        }
        assert [Path(item.path).name for item in found if not item.left] == ["2-333333333333.shards"]
        assert [path.name for path in (folder / "2-333333333333.shards").iterdir()] == ["notes.txt"]
        assert (folder / "2-222222222222.h5").exists()  # nobody knows whether it is in use

    @pytest.mark.parametrize("place", ["toy", "toy/translation", "toy/embeddings/charlm"])
    def test_a_linked_folder_is_not_entered(self, plan: Plan, tmp_path: Path, place: str) -> None:
        """It may be another cache, with stores of recipes that this one does not know."""
        linked = tmp_path / "cache" / place
        translate(plan)
        other = tmp_path / "other"
        if linked.exists():
            linked.rename(other)
        else:
            linked.parent.mkdir(parents=True, exist_ok=True)
            other.mkdir()
        linked.symlink_to(other)
        stores = other / "translation" if place == "toy" else other
        for name in ("2-000000000000.h5", "2-000000000000.h5.01234567.partial"):
            (stores / name).write_bytes(PRECIOUS)
        before = sorted(other.rglob("*"))
        found = collect_garbage(plan, others=True, dry_run=False)
        assert all(item.left for item in found)
        assert any("a link" in item.reason for item in found)
        assert sorted(other.rglob("*")) == before

    def test_a_leftover_of_any_command_goes(self, plan: Plan, tmp_path: Path) -> None:
        translate(plan)
        left = tmp_path / "cache/toy/runs/a/weights.safetensors.01234567.partial"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half")
        assert [item.path for item in collect_garbage(plan, others=False, dry_run=False)] == [str(left)]
        assert not left.exists()


def test_gc_prints_what_it_leaves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path, monkeypatch)
    build_stores()
    (home / "cache/toy/translation/data.h5").write_bytes(b"mine")
    status, told, _ = run("gc", "toy", "--others")
    assert status == 0
    assert told == ("cache/toy/translation/data.h5: left alone, not made by backattn\nnothing to free\n")


class TestRuns:
    @pytest.fixture(autouse=True)
    def stage_two(self) -> None:
        pytest.importorskip("torch")

    @staticmethod
    def train(folder: Path) -> object:
        """One epoch on words alone."""
        from backattn.tagger.run_spec import RunSpec
        from backattn.tagger.training import train_run
        from tagger.tagger_samples import TINY
        from tagger.tagger_samples import make_corpus as make_tagged

        tiny = structs.replace(TINY, epochs=1)
        return train_run(RunSpec(make_tagged(), tiny, "words", 3, {"corpus": "c"}), folder)

    def test_a_link_at_each_of_its_files(self, tmp_path: Path, victim: Path) -> None:
        self.train(tmp_path / "plain")
        names = {path.name for path in (tmp_path / "plain").iterdir()} | {"checkpoint.safetensors"}
        assert {"weights.safetensors", "epochs.jsonl", "run.json", "predictions.dev.tsv", "lock"} <= names
        for name in sorted(names):
            (tmp_path / name).mkdir()
            (tmp_path / name / name).symlink_to(victim)
            with suppress(BackattnError):  # what is read through a link may be refused as damaged
                self.train(tmp_path / name)
            assert victim.read_bytes() == PRECIOUS, name
        (tmp_path / "all").mkdir()
        for name in names:
            for end in (".partial", ".01234567.partial"):
                (tmp_path / "all" / f"{name}{end}").symlink_to(victim)
        self.train(tmp_path / "all")

    def test_a_run_that_is_a_link(self, tmp_path: Path, album: Path) -> None:
        (tmp_path / "run").symlink_to(album)
        with pytest.raises(
            ModelError, match=r"run: is a link, expected the folder of a run; remove the link"
        ):
            self.train(tmp_path / "run")

    def test_a_finished_run_may_have_been_moved_away(self, tmp_path: Path) -> None:
        made = self.train(tmp_path / "run")
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "run").symlink_to(tmp_path / "moved")
        assert self.train(tmp_path / "run") == made


@pytest.mark.slow
def test_no_command_writes_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file that a whole way through the commands leaves, a link in its place, in a cache of its own."""
    pytest.importorskip("torch")
    make_home(tmp_path, monkeypatch)

    def everything() -> None:
        with suppress(BackattnError):
            build_stores()
        for arguments in (("train", "toy", "--seeds", "1", "--inputs", "words", "--set", "tagger.epochs=1"),
                          ("report", "toy"), ("inspect", "toy", "anna singt"), ("project", "toy"),
                          ("gc", "toy", "--others")):  # fmt: skip
            status, _, error = run(*arguments)
            assert status in {0, 1, 2}
            assert error.count("\n") <= 5

    before = set((tmp_path / "cache").rglob("*"))
    everything()
    made = sorted(
        path.relative_to(tmp_path / "cache")
        for path in set((tmp_path / "cache").rglob("*")) - before
        if path.is_file()
    )
    assert {path.suffix for path in made} >= {".h5", ".lock", ".json", ".safetensors", ".tsv", ".md", ".html"}
    victim = tmp_path / "victim"
    victim.write_bytes(PRECIOUS)
    models = {path: path.read_bytes() for path in before if path.is_file()}
    for name in made[:: max(1, len(made) // 8)]:
        for link in (name, name.with_name(f"{name.name}.partial")):
            subprocess.run(["rm", "-r", str(tmp_path / "cache")], check=True)
            for path, content in models.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            (tmp_path / "cache" / link).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cache" / link).symlink_to(victim)
            everything()
            assert victim.read_bytes() == PRECIOUS, link


def test_a_store_that_many_write_and_read_is_always_whole(tmp_path: Path) -> None:
    """Not what the lock allows, but nothing may break without it."""
    path, context = tmp_path / "a.h5", get_context("fork")
    versions = [make_entries([20] * 10, seed) for seed in range(3)]
    write(path, versions[0])
    writers = [context.Process(target=_write_stores, args=(path, entries)) for entries in versions]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        reader = StoreReader(path)
        reader.verify()
        expected = next(entries for entries in versions if next(iter(entries)) in reader)
        assert all(np.array_equal(reader[key]["vectors"], expected[key]["vectors"]) for key in expected)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def _write_stores(path: Path, entries: dict[bytes, dict[str, np.ndarray]]) -> None:
    for _ in range(10):
        write(path, entries)


def test_a_partial_file_does_not_reach_another_program(tmp_path: Path) -> None:
    """Nor a lock: a child that lives on would keep it."""
    with new_partial(tmp_path / "a") as (_, descriptor), writer_lock(tmp_path / "a.lock"):
        code = f"import os; print(sorted(os.listdir('/proc/self/fd')), {descriptor})"
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, close_fds=False
        )
        os.close(descriptor)
    assert f"'{descriptor}'" not in shown.stdout


def test_a_folder_of_results_that_is_a_link(tmp_path: Path) -> None:
    """Their names are known, so a cache that was received could replace a user's own report."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "report.md").write_bytes(PRECIOUS)
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/report").symlink_to(own)
    with pytest.raises(StoreError, match=r"report\.md: cannot be written \(.*is a link, expected a folder"):
        write_text(tmp_path / "toy/report/report.md", "a report")
    assert (own / "report.md").read_bytes() == PRECIOUS


@pytest.mark.parametrize("place", ["projection", "projection/{}"])
def test_a_folder_of_projections_that_is_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    home = make_home(tmp_path, monkeypatch)
    build_stores()
    stem = make_plan(load_recipe("toy"), read_corpus(load_recipe("toy").corpus)).transfer.path.stem
    own = tmp_path / "own"
    own.mkdir()
    (own / "predictions.dev.tsv").write_bytes(PRECIOUS)
    link = home / "cache/toy" / place.format(stem)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(own)
    status, _, errors = run("project", "toy")
    assert (status, errors.count("\n")) == (2, 1)
    assert "is a link, expected a folder of the cache's own" in errors
    assert [path.read_bytes() for path in own.iterdir()] == [PRECIOUS]
