"""Foreign text for people: what a terminal would obey is escaped, and a message is short and one line.

What stands in a user's files reaches the terminal only through :func:`printable`, so that no file can hide,
colour, reorder or forge a line of it. :func:`printable_output` puts it around standard output and standard
error for a whole command: click, tqdm, warnings, tracebacks and other packages all write through it.
"""

import re
import reprlib
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_LONGEST_VALUE = 80
_LONGEST_MESSAGE = 1500
_CUT = " ... "
_NOT_ASCII = re.compile(r"[^ -~]")
# Format characters that Persian, Hindi and emoji are spelt with: they join letters, and move none.
_JOINERS = "\u200c\u200d"
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# The cursor as tqdm moves it: to the beginning of the line, each time a bar is drawn, and a line up.
_BAR = re.compile(r"\r|(?:\x1b\[A)+\Z")


class _Repr(reprlib.Repr):
    """``repr`` that reads no more of a value than it shows, however large or deep that is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = _LONGEST_VALUE

    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write an integer of more than 4300 digits."""
        return repr(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"


_REPR = _Repr()


def quoted(value: object) -> str:
    """A value as Python would write it, shortened in the middle."""
    return shortened(_REPR.repr(value), 2 * _LONGEST_VALUE)


def plain(text: str) -> str:
    """Text without quotes around it, where it is short and has nothing odd; else as :func:`quoted`."""
    harmless = len(text) <= _LONGEST_VALUE and text.isprintable()
    return text if harmless else quoted(text)


def listed(names: "list[str] | tuple[str, ...]") -> str:
    """Names with commas between; a long list is cut."""
    return shortened(", ".join(map(plain, names[:_LONGEST_VALUE])), 4 * _LONGEST_VALUE)


def shortened(text: str, longest: int = 3 * _LONGEST_VALUE) -> str:
    """Text of at most so many characters, cut in the middle."""
    if len(text) <= longest:
        return text
    half = (longest - len(_CUT)) // 2
    return f"{text[:half]}{_CUT}{text[-half:]}"


def error_text(error: BaseException) -> str:
    """The message of another library's exception on one line, shortened; its class if it has none."""
    return shortened(" ".join(str(error).split()) or type(error).__name__)


def one_line(message: str) -> str:
    """A whole message on one line: what cannot be printed is escaped, and there is an end to it."""
    text = shortened(message, _LONGEST_MESSAGE)
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def printable(text: str, keep: str = "") -> str:
    r"""Text in which a terminal finds nothing to obey, and a reader nothing hidden.

    Letters, marks, signs and blanks of all scripts stay. Control characters (C0 and C1), marks that reorder
    text, invisible format characters, line separators, lone surrogates and what is no character become
    ``\uXXXX``, in the spelling of JSON: a JSON text is valid and of equal value afterwards.

    :param keep: characters that structure the text: line feeds, tabs.
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
    """A text stream that writes what is :func:`printable` to another one.

    :param keep: as for :func:`printable`.
    :param bars: let tqdm move the cursor, where the stream is a terminal.
    """

    def __init__(self, stream: TextIO, *, keep: str = "\n", bars: bool = False) -> None:
        self._stream, self._keep = stream, keep
        self._bars = bars and stream.isatty()

    def write(self, text: str) -> int:
        """Write escaped text; an encoding that lacks a letter gets it escaped as well."""
        moved = _BAR.match(text) if self._bars else None
        cursor = moved[0] if moved else ""
        told = cursor + printable(text[len(cursor) :], self._keep)
        try:
            self._stream.write(told)
        except UnicodeEncodeError:
            self._stream.write(_NOT_ASCII.sub(lambda c: c[0] if c[0] in "\r\n\t" else _escape(c[0]), told))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "detach"):  # which would lead around us
            raise AttributeError(name)
        return getattr(self._stream, name)


def _printable(stream: TextIO, *, bars: bool = False) -> TextIO:
    if isinstance(stream, PrintableStream):
        return stream
    return cast(TextIO, PrintableStream(stream, bars=bars))


@contextmanager
def printable_output() -> Iterator[None]:
    """Let everything that this process writes to standard output and standard error be printable."""
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
        # A traceback is still to be written, and must be printable, too; and after a closed pipe click has
        # put streams of its own there, which must stay to the end.
        if not crashed and (sys.stdout, sys.stderr) == ours:
            sys.stdout, sys.stderr = before


def data_output() -> TextIO:
    """Standard output for data: each character as it is in a file or a pipe, printable on a terminal."""
    out: Any = sys.stdout
    if isinstance(out, PrintableStream):
        out = out._stream
    return cast(TextIO, PrintableStream(out, keep="\n\t") if out.isatty() else out)
