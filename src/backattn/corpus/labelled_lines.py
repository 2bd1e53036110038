"""Read the lines of a labelled file in UTF-8, plain or packed by gzip."""

from collections.abc import Iterator
from pathlib import Path

from backattn.common.atomic_files import is_file
from backattn.common.digests import file_digest
from backattn.common.errors import CorpusError, MissingError
from backattn.common.text_lines import BYTE_ORDER_MARK, text_lines
from backattn.corpus.labelled import MOST_BYTES


def labelled_lines(path: Path, form: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers.

    :param form: what the file should be, for messages.
    :raises MissingError: there is no such file.
    :raises CorpusError: it is compressed without the suffix ``.gz``, too large or not UTF-8 text, or a line
        holds a carriage return, a NUL character, or a byte order mark that is not the file's first character.
    """
    if not is_file(path):  # reading a pipe or a device may never end
        raise MissingError(f"{path}: cannot be read (not a file); put {form} there")
    size = 0
    for number, line in text_lines(path, f"put {form} there"):
        size += len(line)
        if size > MOST_BYTES:
            raise CorpusError(
                f"{path}:{number}: found more than {MOST_BYTES:,} characters, which no corpus has; split it"
            )
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        for character, found in (
            ("\r", "a carriage return"), ("\0", "a NUL character"), (BYTE_ORDER_MARK, "a byte order mark"),
        ):  # fmt: skip
            if character in text:
                raise CorpusError(f"{path}:{number}: found {found} inside the line, expected text; mend it")
        yield number, text


def whole_digest(path: Path) -> str:
    """Return the sha256 of the file's bytes.

    :raises MissingError: it cannot be read.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); put it back") from None
