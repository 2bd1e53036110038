"""Foreign text in a message: one line, short, and nothing a terminal would obey."""

import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.common.atomic_files import is_file
from backattn.common.errors import CorpusError
from backattn.common.safe_text import PrintableStream, listed, one_line, plain, printable, quoted, shortened


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("tag", "'tag'"),
        ("a\nb", r"'a\nb'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        (3, "3"),
        (1 << 63, "9223372036854775808"),
        (1 << 20000, "an integer of 20001 bits"),
        ([1, 2], "[1, 2]"),
        (float("nan"), "nan"),
    ],
    ids=quoted,
)
def test_values_by_example(value: object, expected: str) -> None:
    assert quoted(value) == expected


@pytest.mark.parametrize("value", ["x" * 10**7, ["x" * 1000] * 10**6, {"k" * 10**6: "v" * 10**6}], ids=quoted)
def test_what_is_large_is_cut(value: object) -> None:
    assert len(quoted(value)) <= 160


def test_what_is_deep_is_cut() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    assert quoted(value) == "[[[[...]]]]"


@given(st.text(st.characters(codec=None)))
def test_a_message_is_one_line_and_its_ends_stay(text: str) -> None:
    message = str(CorpusError(f"file.txt:1: found {text}; mend the line"))
    assert message.isprintable()
    assert message.startswith("file.txt:1: found ")
    assert message.endswith("; mend the line")
    assert str(CorpusError(message)) == message
    assert plain(text) in (text, quoted(text))
    assert plain(text).isprintable()


def test_printable_text_of_any_language_is_left_alone() -> None:
    text = "Zoë 王五 naïve ‘x’ – 100 %"
    assert one_line(text) == plain(text) == shortened(text) == text


def test_lists_and_texts_end() -> None:
    assert listed(["a", "b\n"]) == r"a, 'b\n'"
    assert len(listed(["name"] * 10**6)) <= 320
    assert listed(["a"] * 80) == ", ".join("a" * 80)
    assert listed(["a"] * 81) == ", ".join("a" * 80) + ", ..."
    assert shortened("a" * 500 + "b" * 500, 20) == "aaaaaaa ... bbbbbbb"


def test_only_a_regular_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_file(tmp_path / "file")
    for path in (tmp_path, tmp_path / "none", Path("/dev/null"), tmp_path / "x\0y", tmp_path / ("x" * 5000)):
        assert not is_file(path)


ANY_TEXT = st.text(st.characters(codec=None))


@given(ANY_TEXT)
def test_nothing_is_left_that_a_terminal_obeys_or_a_reader_does_not_see(text: str) -> None:
    shown = printable(text, keep="\n")
    kinds = {unicodedata.category(c) for c in shown if c not in "\n\u200c\u200d"}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert printable(shown, keep="\n") == shown
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize(
    "text", ["Zoë 王五 100\xa0%", "می\u200cخواهم", "\U0001f469\u200d\U0001f52c", "क\u094d\u200dष", "e\u0301"]
)
def test_letters_marks_and_joiners_of_all_scripts_stay(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x07", r"\u001b[2J\u0007"),
        ("a\n\r\tb", r"a\n\r\tb"),
        ("\x9b\u202e\ud800", r"\u009b\u202e\ud800"),
        ("\U000e0041", r"\udb40\udc41"),
    ],
    ids=quoted,
)
def test_the_rest_is_spelt_as_in_json(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert json.loads(f'"{expected}"') == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\rword\r: 10%", r"\rword\r: 10%".replace(r"\r", "\r", 1)),
        ("\x1b[A\x1b[A", "\x1b[A\x1b[A"),
        ("\x1b[A\n", "\\u001b[A\n"),
        ("a\x1b[A", r"a\u001b[A"),
    ],
    ids=quoted,
)
def test_a_bar_moves_the_cursor_on_a_terminal_alone(text: str, shown: str) -> None:
    for terminal, bars in ((Terminal(), True), (Terminal(), False), (io.StringIO(), True)):
        assert PrintableStream(terminal, bars=bars).write(text) == len(text)
        drawn = bars and terminal.isatty()
        assert terminal.getvalue() == (shown if drawn else printable(text, keep="\n"))


def test_nothing_leads_around() -> None:
    raw = io.BytesIO()
    stream = PrintableStream(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
    stream.writelines(["é 王\n", "\x85"])
    stream.flush()
    assert raw.getvalue().decode() == "é 王\n\\u0085"
    assert not hasattr(stream, "buffer")
