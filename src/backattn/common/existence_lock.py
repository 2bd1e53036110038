"""A lock for file systems without flock: whoever creates the file holds it, and removes it at the end.

The file names its holder. The file of a dead process on this host is taken over; whether a process of another
host is alive cannot be seen, so the user decides. Every holder writes a random number, so that no two files
have equal content: a file that reads as that of a dead holder is still the dead holder's.

Only one process may remove the file of a dead holder, or a slow one would remove the file of the next
holder. The right to remove it is a lock of the same kind beside it, named after the dead holder's content.
"""

import hashlib
import os
import re
import shlex
import socket
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backattn.common.errors import BackattnError, BusyError, StoreError

MOST_BYTES = 512
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_HOLDER = re.compile(
    rb"process (?P<pid>[1-9]\d{0,9}) on (?P<host>[^\n,]*)"
    rb", started (?P<start>\d*) after boot (?P<boot>[\w-]*) in (?P<space>[\w:\[\]]*), number [0-9a-f]{16}\n"
)
# Content of a lock file of :mod:`~backattn.common.file_lock`, which its process may have left behind.
_KERNEL_HOLDER = re.compile(rb"process (?P<pid>[1-9]\d{0,9}) on (?P<host>[^\n,]*)\n?\0*")
# Seconds in which the creator of an empty file writes its name into it.
_WRITTEN = 1.0


@dataclass(frozen=True)
class _Process:
    """A process, with what distinguishes it from earlier and later processes of the same number.

    :param start: start time in the kernel's ticks after boot; empty where it is not known.
    :param boot: id of the boot.
    :param space: the namespace of process numbers: containers with one host name have several.
    """

    pid: int
    host: str
    start: str
    boot: str
    space: str


def take(path: Path) -> bytes:
    """Create the lock file at ``path``; remove that of a dead process first.

    :return: its content, for :func:`release`.
    :raises BusyError: another process holds it, or may hold it.
    :raises StoreError: a pipe, a device or a file of other content lies there.
    :raises OSError: it cannot be created; ``ELOOP`` for a link.
    """
    deadline = time.monotonic() + _WRITTEN
    while True:
        content = _own_content()
        if _create(path, content):
            return content
        found = _read(path)
        if found is None:
            continue  # its holder has just removed it
        if not found.strip(b"\0") and time.monotonic() < deadline:
            time.sleep(0.01)
            continue
        _require_dead(path, found)
        _remove_of_dead(path, found)


def release(path: Path, content: bytes) -> None:
    """Remove a lock file if it still has this content."""
    with suppress(OSError, BackattnError):
        if _read(path) == content:
            path.unlink()


def is_holder(content: bytes) -> bool:
    """Return whether the content of a lock file is that of this kind of lock."""
    return _HOLDER.fullmatch(content) is not None


def no_lock(path: Path, found: str) -> StoreError:
    """Make the error for a path at which something other than a lock file lies."""
    return StoreError(f"{path}: is {found}, expected a lock file; move it away, then run again")


def _remove_of_dead(path: Path, content: bytes) -> None:
    right = path.with_name(f"{path.name}.{hashlib.sha256(content).hexdigest()[:16]}.claim")
    mine = take(right)
    try:
        if _read(path) == content:  # nobody else may remove it now
            path.unlink()
    finally:
        release(right, mine)


def _create(path: Path, content: bytes) -> bool:
    """Create a file with this content; return False if there is something already."""
    try:
        descriptor = os.open(path, _CREATE, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return True


def _read(path: Path) -> bytes | None:
    """Read a lock file; None if there is none."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise no_lock(path, "a pipe or a device")
        return os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)


def _require_dead(path: Path, content: bytes) -> None:
    """Check that the process that a lock file names has ended.

    :raises BusyError: it runs, or this cannot be known.
    :raises StoreError: the file is not a lock file.
    """
    found = _HOLDER.fullmatch(content) or _KERNEL_HOLDER.fullmatch(content)
    if found is None and content.strip(b"\0"):
        raise no_lock(path, "a file of other content")
    if found is None:
        raise _unknown(path, "an unnamed process")
    named = {name: value.decode("utf-8", "replace") for name, value in found.groupdict().items()}
    holder = _Process(
        int(named["pid"]), named["host"], *(named.get(key, "") for key in ("start", "boot", "space"))
    )
    name, here = f"process {holder.pid} on {holder.host}", _this_process()
    if holder.host != here.host or (is_holder(content) and _place(holder) != _place(here)):
        raise _unknown(path, name)
    if _runs(holder):
        raise BusyError(f"{path}: held by {name}; wait for it to end, then run again")


def _place(process: _Process) -> tuple[str, str]:
    """Return the boot and the namespace within which a process number is unique."""
    return process.boot, process.space


def _unknown(path: Path, name: str) -> BusyError:
    try:
        age = f"for {_in_words(time.time() - path.lstat().st_mtime)}"
    except OSError:
        age = "until now"
    return BusyError(
        f"{path}: held by {name} {age}, which cannot be seen from {socket.gethostname()}; wait for it to "
        f"end; if it does not run any more, `rm {shlex.quote(str(path))}`, then run again"
    )


def _in_words(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{max(0, int(seconds))} s"


def _runs(holder: _Process) -> bool:
    """Return whether a process of this host runs; one that started at another time is another process."""
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    state, start = _state_and_start(holder.pid)
    # A killed process stays as a zombie until its parent asks for its status.
    return state not in ("Z", "X") and (not start or not holder.start or start == holder.start)


def _state_and_start(pid: int) -> tuple[str, str]:
    """State and start time of a process; empty where the system does not tell."""
    try:
        # The second field is a name in brackets, which may hold brackets and blanks.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode("ascii"), fields[19].decode("ascii")
    except (OSError, IndexError, UnicodeDecodeError):
        return "", ""


def _this_process() -> _Process:
    boot = space = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    host = re.sub("[\n,]", "", socket.gethostname())
    return _Process(os.getpid(), host, _state_and_start(os.getpid())[1], boot, space)


def _own_content() -> bytes:
    own = _this_process()
    return (
        f"process {own.pid} on {own.host}, started {own.start} after boot {own.boot} in {own.space}, "
        f"number {os.urandom(8).hex()}\n"
    ).encode()
