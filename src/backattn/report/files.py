"""Writing a report's files."""

from pathlib import Path

from backattn.errors import StoreError
from backattn.files import write_whole


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file so that a reader sees all of it or the old one.

    :raises StoreError: the disk or the folder refuses; the old file stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A lone surrogate (a broken token) must not stop a report.
        write_whole(path, text.encode("utf-8", errors="replace"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); free space or fix the folder") from None
