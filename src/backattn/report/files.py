"""Writing a report's files."""

import os
from pathlib import Path

from backattn.errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file so that a reader sees all of it or the old one.

    :raises StoreError: the disk or the folder refuses; the old file stays.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A lone surrogate (a broken token) must not stop a report.
        partial.write_bytes(text.encode("utf-8", errors="replace"))
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); free space or fix the folder") from None
