"""Write files and folders atomically: a reader sees the whole new one, or the old one.

A file is written under a new random name, so that no link in a received folder is followed and concurrent
processes never share one. Its writer holds a lock on it: an unlocked partial file was left by a killed
process, and the next writer of that file removes it.
"""

import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backattn.common.errors import StoreError

# Suffix of an unfinished file or folder.
PARTIAL = ".partial"
# What follows the name of a finished file or folder: eight random digits and the suffix.
_PARTIAL_END = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(PARTIAL)}")
_REPLACED_END = re.compile(rf"\.[0-9a-f]{{8}}\.replaced{re.escape(PARTIAL)}")
_PARTIAL_NAME = re.compile(f".+{_PARTIAL_END.pattern}", re.DOTALL)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_file(path: Path) -> bool:
    """Return whether a path leads to a regular file; a pipe or a device may never end, and has no size."""
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def is_own_file(path: Path) -> bool:
    """Return whether a path is a regular file, and not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def is_own_folder(path: Path) -> bool:
    """Return whether a path is a folder, and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def entries_below(folder: Path) -> Iterator[str]:
    """Yield the files, links and empty folders below a folder, as paths with slashes; no link is followed."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*files, *links):
            yield Path(parent, name).relative_to(folder).as_posix()
        if not folders and not files and parent != str(folder):
            yield Path(parent).relative_to(folder).as_posix()


def make_own_folder(folder: Path) -> None:
    """Make a folder of a cache, where it is not there.

    :raises OSError: it cannot be made, or a link lies there: what that leads to may be anybody's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a link, expected a folder of the cache's own", str(folder))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, sync it and rename it; a power cut leaves the old one.

    A link at ``path`` is replaced, not followed.
    """
    try:
        with new_partial(path) as (partial, descriptor), open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            os.replace(partial, path)
    except OSError as error:  # a full disk does not say which file it was
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_whole_text(path: Path, text: str) -> None:
    """Write text in UTF-8 with :func:`write_whole`."""
    write_whole(path, text.encode("utf-8"))


@contextmanager
def new_partial(path: Path) -> Iterator[tuple[Path, int]]:
    """Create a partial file beside ``path``, to be filled and renamed; yield its path and open descriptor.

    It is removed when the block fails. Leftovers of killed writers of ``path`` are removed first.
    """
    remove_leftovers(path.parent, path.name)
    partial, descriptor = _create(path)
    try:
        yield partial, descriptor
    except BaseException:  # half of a file would only fill the disk
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _create(path: Path) -> tuple[Path, int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        partial = path.with_name(f"{path.name}{_random()}{PARTIAL}")
        with suppress(FileExistsError):
            descriptor = os.open(partial, flags, 0o666)
            if _hold(descriptor):
                return partial, descriptor
            os.close(descriptor)  # another process checks whether it is a leftover, and may remove it
            partial.unlink(missing_ok=True)


def _hold(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: no process can lock the file, so none removes it
        return True
    return os.fstat(descriptor).st_nlink > 0


def is_partial(name: str) -> bool:
    """Return whether a name is one that :func:`new_partial` gives."""
    return _PARTIAL_NAME.fullmatch(name) is not None


def is_leftover(path: Path, *, remove: bool = False) -> bool:
    """Return whether a partial file was left by a killed process: no process holds its lock.

    :param remove: remove it if so.
    """
    if not (is_partial(path.name) and is_own_file(path)):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.lstat()):  # its writer has just renamed it
            return False
        if remove:
            path.unlink()
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the partial files of killed processes from a folder.

    :param name: only those of this file.
    """
    for path in _entries(folder, _PARTIAL_END if name else _PARTIAL_NAME, name):
        is_leftover(path, remove=True)


def remove_files(folder: Path, names: str) -> None:
    """Remove regular files from a folder, then the folder if it is empty; links are kept.

    :param names: regular expression that the names match.
    """
    if not is_own_folder(folder):
        return
    for path in _entries(folder, re.compile(names, re.DOTALL)):
        if is_own_file(path):
            path.unlink()
    with suppress(OSError):  # it is not empty
        folder.rmdir()


def _entries(folder: Path, end: re.Pattern[str], begin: str = "") -> list[Path]:
    """List the entries whose names are ``begin`` followed by a match of ``end``, sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(e.path)
                for e in entries
                if e.name.startswith(begin) and end.fullmatch(e.name, len(begin))
            )
    except OSError:  # missing, or not readable
        return []


def _random() -> str:
    return f".{os.urandom(4).hex()}"


def strange_folder(folder: Path, manifest: str) -> bool:
    """Return whether a folder has content, but not the manifest of the folder that would replace it."""
    if not folder.exists() or (folder / manifest).exists():
        return False
    return not folder.is_dir() or any(folder.iterdir())


def publish_folder(finished: Path, folder: Path) -> None:
    """Move a finished folder into its place; an older one is removed only afterwards.

    :param folder: not a link; no other process may publish or discard it at the same time.
    """
    old = _set_aside(folder)
    finished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_partial_folder(folder: Path) -> Iterator[Path]:
    """Make a folder beside ``folder``, to be filled and published; it is removed when the block fails.

    Its process holds a lock on it. Unlocked folders were left by killed processes, and are removed first.
    """
    for path in _entries(folder.parent, _PARTIAL_END, f".{folder.name}"):
        _remove_leftover_folder(path)
    made, descriptor = _create_folder(folder)
    try:
        yield made
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def _create_folder(folder: Path) -> tuple[Path, int]:
    while True:
        made = folder.with_name(f".{folder.name}{_random()}{PARTIAL}")
        with suppress(FileExistsError):
            made.mkdir()
            descriptor = os.open(made, _FOLDER)
            if _hold(descriptor):
                return made, descriptor
            os.close(descriptor)  # another process takes it for a leftover, and removes it


def _remove_leftover_folder(path: Path) -> None:
    with suppress(OSError):  # a link, or gone
        descriptor = os.open(path, _FOLDER)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def discard_folder(folder: Path) -> None:
    """Remove a folder; a kill leaves it complete, or under another name."""
    if not folder.is_symlink():
        shutil.rmtree(_set_aside(folder), ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    """Move a folder, if it exists, to an unused name; remove folders that killed processes set aside."""
    name = f".{folder.name}"
    for path in _entries(folder.parent, _REPLACED_END, name):
        if is_own_folder(path):
            shutil.rmtree(path, ignore_errors=True)
    old = folder.with_name(f"{name}{_random()}.replaced{PARTIAL}")
    if folder.exists():
        folder.rename(old)
    return old


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file with its folders, atomically.

    :raises StoreError: the disk or the folder refuses; the old file stays.
    """
    # A lone surrogate (a broken token) must not stop a report.
    write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file with its folders, as :func:`write_text`."""
    try:
        make_own_folder(path.parent)
        write_whole(path, data)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); free space or fix the folder") from None
