"""Foreign text in a message: one line, no control characters, never longer than a person reads.

What stands in a user's files reaches the terminal only through here, so that no file can hide, colour or
forge a line of it.
"""

import reprlib

_LONGEST_VALUE = 80
_LONGEST_MESSAGE = 1500
_CUT = " ... "


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


def one_line(message: str) -> str:
    """A whole message on one line: what cannot be printed is escaped, and there is an end to it."""
    text = shortened(message, _LONGEST_MESSAGE)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]
