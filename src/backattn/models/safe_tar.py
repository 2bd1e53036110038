"""Unpack untrusted tar archives: nothing is written outside of the target folder, or beyond a size limit.

fairseq unpacks its hub's archives itself, with ``tarfile``, so the guard is a filter that tarfile applies.
"""

import contextlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from backattn.common.errors import ModelError
from backattn.common.safe_text import plain

# Bytes; fairseq's largest public archive, an ensemble of four translators, has some 13 GB.
_MOST_UNPACKED = 1 << 36


@contextlib.contextmanager
def safe_members() -> Iterator[None]:
    """Make tarfile unpack only folders and regular files below the target, also in calls of other libraries.

    Stricter than the standard library's ``data`` filter, which also admits links, through which later members
    can be written, and makes absolute names relative, while fairseq goes on with the absolute ones.

    :raises ModelError: inside, at the first member of another kind.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ModelError("this Python cannot unpack archives safely; expected 3.11.4 or later")
    before = tarfile.TarFile.extraction_filter
    unpacked = 0

    def bounded(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
        nonlocal unpacked
        unpacked += member.size
        if unpacked > _MOST_UNPACKED or member.size > shutil.disk_usage(target).free:
            raise ModelError(
                f"its member {plain(member.name)} makes it {unpacked:,} bytes unpacked; expected at most "
                f"{_MOST_UNPACKED:,}, and room for it on the disk; unpack it by hand and name that folder as "
                "translator.checkpoint"
            )
        return _checked_member(member, target)

    tarfile.TarFile.extraction_filter = staticmethod(bounded)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def _checked_member(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"its member {plain(member.name)} lies outside of its folder")
    if not (member.isreg() or member.isdir()):
        raise ModelError(f"its member {plain(member.name)} is neither a file nor a folder")
    return tarfile.data_filter(member, target)
