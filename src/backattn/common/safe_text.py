"""Escape foreign text for terminals and messages, and shorten messages to one line.

Content of files reaches the terminal only through :func:`printable`, so that no file can hide, colour,
reorder or forge a line. :func:`printable_output` applies it to all output of a command: of
click, tqdm, warnings, tracebacks and other packages.
"""

import re
import reprlib
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

_LONGEST_VALUE = 80
_LONGEST_MESSAGE = 1500
_CUT = " ... "
_NOT_ASCII = re.compile(r"[^ -~]")
# Format characters of Persian, Hindi and emoji: they join letters and do not reorder text.
_JOINERS = "\u200c\u200d"
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# Cursor movements of tqdm: to the beginning of the line each time it draws a bar, and one line up.
_BAR = re.compile(r"\r|(?:\x1b\[A)+\Z")


class _Repr(reprlib.Repr):
    """``repr`` that reads only the part of a large or deep value that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = _LONGEST_VALUE

    def repr_int(self, value: int, level: int) -> str:
        """Describe a large integer: Python refuses to print more than 4300 digits."""
        return repr(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"


_REPR = _Repr()


def quoted(value: object) -> str:
    """Return the ``repr`` of a value, shortened in the middle."""
    return shortened(_REPR.repr(value), 2 * _LONGEST_VALUE)


def plain(text: str) -> str:
    """Return short printable text as it is; any other as :func:`quoted`."""
    harmless = len(text) <= _LONGEST_VALUE and text.isprintable()
    return text if harmless else quoted(text)


def listed(names: "list[str] | tuple[str, ...]") -> str:
    """Join names with commas; a long list is cut."""
    more = ["..."] if len(names) > _LONGEST_VALUE else []
    return shortened(", ".join([*map(plain, names[:_LONGEST_VALUE]), *more]), 4 * _LONGEST_VALUE)


def shortened(text: str, longest: int = 3 * _LONGEST_VALUE) -> str:
    """Cut text in the middle to at most so many characters."""
    if len(text) <= longest:
        return text
    half = (longest - len(_CUT)) // 2
    return f"{text[:half]}{_CUT}{text[-half:]}"


def error_text(error: BaseException) -> str:
    """Return the message of another library's exception on one line, shortened; its class if it has none."""
    return shortened(" ".join(str(error).split()) or type(error).__name__)


def named_error_text(error: BaseException) -> str:
    """Return the class and the message of another library's exception, as :func:`error_text` does."""
    return shortened(f"{type(error).__name__}: {error_text(error)}")


def one_line(message: str) -> str:
    """Convert a message to one line of bounded length, with unprintable characters escaped."""
    text = shortened(message, _LONGEST_MESSAGE)
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def printable(text: str, keep: str = "") -> str:
    r"""Escape characters that control a terminal or are invisible to a reader.

    Letters, marks, signs and spaces of all scripts are kept. Control characters (C0 and C1), marks that
    reorder text, invisible format characters, line separators, lone surrogates and unassigned code points
    become ``\uXXXX`` as in JSON, so that a JSON text stays valid and of equal value.

    :param keep: further characters to keep, such as line feeds and tabs.
    """
    return _NOT_ASCII.sub(lambda found: found[0] if _is_plain(found[0], keep) else _escape(found[0]), text)


def _is_plain(character: str, keep: str) -> bool:
    return (
        character.isprintable()
        or character in keep
        or character in _JOINERS
        or unicodedata.category(character) == "Zs"
    )


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", errors="surrogatepass").hex()
    escaped = "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
    return _SHORT.get(character, escaped)


class PrintableStream:
    """A text stream that passes text through :func:`printable` to another stream.

    :param keep: see :func:`printable`.
    :param bars: let tqdm move the cursor if the stream is a terminal.
    """

    def __init__(self, stream: TextIO, *, keep: str = "\n", bars: bool = False) -> None:
        self._stream, self._keep = stream, keep
        self._bars = bars and stream.isatty()

    def write(self, text: str) -> int:
        """Write escaped text."""
        moved = _BAR.match(text) if self._bars else None
        cursor = moved[0] if moved else ""
        self._stream.write(cursor + printable(text[len(cursor) :], self._keep))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "detach"):  # they would bypass the escaping
            raise AttributeError(name)
        return getattr(self._stream, name)


def _printable(stream: TextIO, *, bars: bool = False) -> TextIO:
    if isinstance(stream, PrintableStream):
        return stream
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="strict")
    return cast(TextIO, PrintableStream(stream, bars=bars))


@contextmanager
def printable_output() -> Iterator[None]:
    """Make all text that this process writes to standard output and standard error printable.

    It is UTF-8, as all input is, whatever the locale says: a file that a command wrote can be read again.
    """
    before = sys.stdout, sys.stderr
    ours = _printable(sys.stdout), _printable(sys.stderr, bars=True)
    sys.stdout, sys.stderr = ours
    crashed = True
    try:
        yield
        crashed = False
    except (SystemExit, KeyboardInterrupt):
        crashed = False
        raise
    finally:
        # A traceback that is still to be printed must be printable, too; and after a closed pipe click has
        # replaced the streams by its own, which must stay to the end.
        if not crashed and (sys.stdout, sys.stderr) == ours:
            sys.stdout, sys.stderr = before


def data_output(*, escaped: bool = True) -> TextIO:
    """Return standard output for data: exact in a file or a pipe, printable on a terminal.

    :param escaped: False for text that was made printable piece by piece, with colours between the pieces.
    """
    out: Any = sys.stdout
    if isinstance(out, PrintableStream):
        out = out._stream
    return cast(TextIO, PrintableStream(out, keep="\n\t") if escaped and out.isatty() else out)
