"""Foreign text in a message: one line, short, and nothing a terminal would obey."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.errors import CorpusError
from backattn.files import is_file
from backattn.quoting import listed, one_line, plain, quoted, shortened


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
    assert shortened("a" * 500 + "b" * 500, 20) == "aaaaaaa ... bbbbbbb"


def test_only_a_regular_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_file(tmp_path / "file")
    for path in (tmp_path, tmp_path / "none", Path("/dev/null"), tmp_path / "x\0y", tmp_path / ("x" * 5000)):
        assert not is_file(path)
