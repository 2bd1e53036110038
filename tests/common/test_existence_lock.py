"""BACKATTN_LOCK=file: the existence of the file is the lock, of processes that live, die and race."""

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backattn.common.errors import BusyError, RecipeError, StoreError
from backattn.common.file_lock import writer_lock

HOLD = """
import sys, time
from pathlib import Path
from backattn.common.file_lock import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
# Rounds of a dead holder and several forked processes that want its place at once. The winner holds the lock
# until all others have lost; "left" leaves the right of one that died in the middle.
RACE = """
import hashlib, os, signal, sys
from pathlib import Path
from backattn.common.errors import BusyError
from backattn.common.file_lock import writer_lock

lock, died = Path(sys.argv[1]), sys.argv[2] == "left"

def forked(work):
    number = os.fork()
    if not number:
        try:
            os._exit(work())
        finally:
            os._exit(9)
    return number

def die_with(path):
    def work():
        with writer_lock(path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(forked(work), 0)
    assert path.exists()

def race(start, end):
    signal.alarm(10)  # two that hold it wait for each other to end
    os.read(start, 1)  # all begin when the last other end of the pipe is closed
    try:
        with writer_lock(lock):
            os.read(end, 1)
            return 1
    except BusyError as error:
        return 0 if " held by process " in str(error) else 8

for number in range(int(sys.argv[3])):
    die_with(lock)
    if died:
        claim = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
        die_with(lock.with_name(f"{lock.name}.{claim}.claim"))
    (start, started), (end, ended) = os.pipe(), os.pipe()
    def work():
        os.close(started)
        os.close(ended)
        return race(start, end)
    waiting = {forked(work) for _ in range(int(sys.argv[4]))}
    os.close(started)
    codes = []
    while len(waiting) > 1:
        pid, status = os.waitpid(-1, 0)
        waiting.remove(pid)
        codes.append(os.waitstatus_to_exitcode(status))
    assert not any(codes), (number, codes)
    os.close(ended)
    assert os.waitstatus_to_exitcode(os.waitpid(waiting.pop(), 0)[1]) == 1, number
    assert not list(lock.parent.iterdir()), number
    os.close(start)
    os.close(end)
print("one each")
"""
ROUNDS, RACERS = 25, 6


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKATTN_LOCK", "file")
    return tmp_path / "folder" / "a.lock"


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        with suppress(BrokenPipeError):
            child.communicate()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline()


def taken(lock: Path) -> None:
    """Nobody else holds it, and it is gone afterwards."""
    with writer_lock(lock):
        assert lock.read_text().startswith(f"process {os.getpid()} on {socket.gethostname()}, started ")
    assert list(lock.parent.iterdir()) == []


def test_it_is_held_once_and_gone_afterwards(lock: Path) -> None:
    taken(lock)
    with writer_lock(lock), pytest.raises(BusyError) as found, writer_lock(lock):
        pass
    name = f"process {os.getpid()} on {socket.gethostname()}"
    assert str(found.value) == f"{lock}: held by {name}; wait for it to end, then run again"
    with pytest.raises(ZeroDivisionError), writer_lock(lock):
        raise ZeroDivisionError
    taken(lock)


def test_a_killed_process_keeps_nothing(lock: Path) -> None:
    with process(HOLD, lock) as child:
        assert said(child) == "held\n"
        with pytest.raises(BusyError, match=f"held by process {child.pid} on "), writer_lock(lock):
            pass
        child.send_signal(signal.SIGKILL)
        while (
            Path(f"/proc/{child.pid}/stat").read_text().split()[2] != "Z"
        ):  # nobody has asked for its status
            time.sleep(0.001)
        taken(lock)
        with process(HOLD, lock) as other:
            assert said(other) == "held\n"
            other.kill()
            other.wait()
        assert lock.exists()
        taken(lock)


def test_another_process_of_the_same_number_is_not_its_holder(lock: Path) -> None:
    with writer_lock(lock):
        content = lock.read_text()
    older = re.sub(r"started \d+", "started 1", content)
    assert older != content
    lock.write_text(older)
    taken(lock)


@pytest.mark.parametrize("died", ["whole", "left"])
def test_one_of_many_takes_over(lock: Path, died: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(lock), died, str(ROUNDS), str(RACERS)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("one each\n", "")


FOREIGN = "process 12 on elsewhere, started 34 after boot a-b in pid:[56], number 0123456789abcdef\n"


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, r"\d s"), (60, "1 minute"), (7_300, "2 hours"), (180_000, "2 days"), (-50, "0 s")],
)
def test_of_another_host_the_user_decides(lock: Path, seconds: float, age: str) -> None:
    lock = lock.with_name("a b.lock")
    lock.parent.mkdir()
    lock.write_text(FOREIGN)
    os.utime(lock, (0, time.time() - seconds))
    with pytest.raises(BusyError) as found, writer_lock(lock):
        pass
    here = socket.gethostname()
    expected = rf"held by process 12 on elsewhere for {age}, which cannot be seen from {here}; wait for it"
    assert re.search(expected, str(found.value))
    assert f"if it does not run any more, `rm '{lock}'`, then run again" in str(found.value)
    assert lock.read_text() == FOREIGN
    lock.unlink()
    taken(lock)


@pytest.mark.parametrize("part", ["boot", "in"])
def test_numbers_of_another_boot_or_container_say_nothing(lock: Path, part: str) -> None:
    with writer_lock(lock):
        content = re.sub(
            rf"process \d+(.*) {part} [^ ,]*", rf"process 999999999\1 {part} other", lock.read_text()
        )
    lock.write_text(content)
    with pytest.raises(BusyError, match=r"which cannot be seen from .*`rm "), writer_lock(lock):
        pass
    assert lock.read_text() == content


@pytest.mark.parametrize(
    "left",
    [f"process 999999999 on {socket.gethostname()}\n".encode(),
     f"process 999999999 on {socket.gethostname()}\n".encode() + bytes(9)],
)  # fmt: skip
def test_what_a_lock_of_the_kernel_left_is_taken_over(lock: Path, left: bytes) -> None:
    lock.parent.mkdir()
    lock.write_bytes(left)
    taken(lock)


@pytest.mark.parametrize("left", [b"", bytes(40)])
def test_an_empty_file_is_waited_for_and_named(lock: Path, left: bytes) -> None:
    lock.parent.mkdir()
    lock.write_bytes(left)
    with pytest.raises(BusyError, match=r"held by an unnamed process for .*`rm "), writer_lock(lock):
        pass
    late = "import sys, time; time.sleep(.3); open(sys.argv[1], 'w').write(sys.argv[2])"
    expected = pytest.raises(BusyError, match="held by process 12 on elsewhere")
    with process(late, lock, FOREIGN), expected, writer_lock(lock):
        pass


@pytest.mark.parametrize(
    "left",
    [b"my notes\n", b"process 1 on here\nmy notes", b"process 0 on here\n", FOREIGN.encode() + b"more",
     b"\xff", b"process 99999999999 on here\n", b"x" * 5000, FOREIGN.encode().replace(b"elsewhere", b"a\nb")],
)  # fmt: skip
def test_a_file_of_the_user_stays(lock: Path, left: bytes) -> None:
    lock.parent.mkdir()
    lock.write_bytes(left)
    with (
        pytest.raises(StoreError, match="is a file of other content, expected a lock file"),
        writer_lock(lock),
    ):
        pass
    assert lock.read_bytes() == left


def test_links_pipes_and_folders_are_refused(lock: Path, tmp_path: Path) -> None:
    lock.parent.mkdir()
    victim = tmp_path / "victim"
    for target in (victim, tmp_path / "none"):
        victim.write_text(FOREIGN)
        lock.symlink_to(target)
        with pytest.raises(StoreError, match=r"a\.lock: is a link, expected a lock file"), writer_lock(lock):
            pass
        lock.unlink()
    assert victim.read_text() == FOREIGN
    assert not (tmp_path / "none").exists()
    os.mkfifo(lock)
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"a\.lock: is a pipe or a device"), writer_lock(lock):
        pass
    assert time.monotonic() - begun < 1
    lock.unlink()
    lock.mkdir()
    with pytest.raises(StoreError, match=r"a\.lock: is a pipe or a device"), writer_lock(lock):
        pass


def test_a_file_that_others_put_there_is_not_removed(lock: Path) -> None:
    with writer_lock(lock):
        lock.unlink()
        lock.write_text(FOREIGN)
    assert lock.read_text() == FOREIGN


def test_a_full_disk_leaves_no_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"the lock cannot be made \(No space left"), writer_lock(lock):
            pass
    taken(lock)


@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    """No such file system can be mounted here: the system call is the one thing that is replaced."""

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.delenv("BACKATTN_LOCK", raising=False)
    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = tmp_path / "a.lock"
    with pytest.raises(StoreError) as found, writer_lock(lock):
        pass
    assert str(found.value) == (
        f"{lock}: its file system has no locks ({os.strerror(getattr(errno, number))}); set "
        "BACKATTN_LOCK=file for every process that uses this cache, then run again"
    )
    assert not lock.exists()
    monkeypatch.setenv("BACKATTN_LOCK", "file")
    taken(lock)


def test_both_kinds_at_once_are_refused(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer_lock(lock):
        content = lock.read_bytes()
        monkeypatch.delenv("BACKATTN_LOCK")
        with (
            pytest.raises(BusyError, match="was locked with BACKATTN_LOCK=file; set that"),
            writer_lock(lock),
        ):
            pass
        assert lock.read_bytes() == content
    with writer_lock(lock):
        monkeypatch.setenv("BACKATTN_LOCK", "file")
        with pytest.raises(BusyError, match=f"held by process {os.getpid()} on "), writer_lock(lock):
            pass


def test_another_value_is_refused(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_LOCK", "flie")
    with pytest.raises(RecipeError, match="BACKATTN_LOCK is 'flie'; set it to file where"), writer_lock(lock):
        pass
    assert not lock.parent.exists()
