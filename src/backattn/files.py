"""Files and folders that appear whole: a reader sees all of the new one, or the old one."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

# Ends the name of what is not finished yet.
PARTIAL = ".partial"


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file: a pipe or a device may never end, and has no size."""
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, sync it and rename it; a power cut leaves the old one."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:  # a full disk does not say which file it was; half of one would only fill it
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_whole_text(path: Path, text: str) -> None:
    """As :func:`write_whole`, in UTF-8."""
    write_whole(path, text.encode("utf-8"))


def strange_folder(folder: Path, manifest: str) -> bool:
    """Whether a folder holds something, but not the manifest of what would take its place."""
    if not folder.exists() or (folder / manifest).exists():
        return False
    return not folder.is_dir() or any(folder.iterdir())


def _set_aside(folder: Path) -> Path:
    """Where a folder waits for its end: under a name that nobody gives to what they move away."""
    return folder.with_name(f".{folder.name}.replaced{PARTIAL}")


def publish_folder(finished: Path, folder: Path) -> None:
    """Put a finished folder in its place; an older one goes only when the new one is complete."""
    old = _set_aside(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    finished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def discard_folder(folder: Path) -> None:
    """Remove a folder that nobody needs any more; a kill leaves it whole, or under another name."""
    old = _set_aside(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)
