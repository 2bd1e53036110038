"""Column files by strangers: mutated ones, huge ones, odd encodings, and what is no file at all."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.common.safe_text import quoted
from backattn.corpus import evenly_spread
from backattn.corpus.formats import parse_column_file, read_corpus
from backattn.corpus.jsonl import parse_jsonl
from backattn.recipe import ColumnFormat, CorpusRecipe, JsonlFormat
from hostile import LETTERS, answer, check_column_file

pytestmark = pytest.mark.slow

TOKENS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n\r\0\t "), min_size=1)
KINDS = st.sampled_from(["X", "PER", "ORG.NAM", "Y" * 300, "\x1b[31m", "\u2028", "-"])
ODD_LINES = st.sampled_from(
    ["", " ", "\t", "#", "# a comment", "#\tO", "# O", "#a B-X", "#\tPER", "-DOCSTART- O", "a", "a b c O",
     "\ufeff", "\0", "\r", "x I-", '{"a": 1}', '[{"a":', "{", "T1\tX 0 1\tx", "2-3", "1.1"]
)  # fmt: skip


@st.composite
def formats(draw: st.DrawFn) -> ColumnFormat:
    scheme: Any = draw(st.sampled_from(sorted(LETTERS)))
    return ColumnFormat(
        token=draw(st.sampled_from([0, 1, -1, -2, 9, 2**80])),
        tag=draw(st.sampled_from([-1, 1, 0, 2, -9])),
        scheme=scheme,
        type=draw(st.sampled_from(["", "", "PER", "a b"])),
        orphans="begin" if scheme in ("IOB2", "BIO") and draw(st.booleans()) else "refuse",
        separator=draw(st.sampled_from(["tab", "whitespace"])),
        encoding=draw(
            st.sampled_from(["utf-8", "utf-8", "utf-16", "iso-8859-1", "gb18030", "utf-7", "cp037"])
        ),
        comment=draw(st.sampled_from(["", "#", "a"])),
        docstart=draw(st.sampled_from(["", "-DOCSTART-", "O"])),
        segmentation_digit=draw(st.booleans()),
        types=draw(st.sampled_from([{}, {"X": "Y", "PER": ""}, {"X": "a b"}])),
    )


@st.composite
def column_files(draw: st.DrawFn, format: ColumnFormat) -> bytes:
    """A file that is nearly of its format: right columns, tags of its scheme, then a few bytes changed."""
    gap = "\t" if format.separator == "tab" else draw(st.sampled_from([" ", "\t", "  "]))
    lines = []
    for _ in range(draw(st.integers(0, 12))):
        tag = draw(st.sampled_from(["O", *LETTERS[format.scheme]]))
        if tag != "O" and not format.type:
            tag = draw(KINDS) if format.scheme == "IO" else f"{tag}-{draw(KINDS)}"
        token = draw(st.sampled_from(["", "", "#"])) + draw(TOKENS) + "0" * format.segmentation_digit
        ids = [str(draw(st.integers(0, 3)))] if format.token == 1 else []
        lines.append(gap.join([*ids, token, tag] if draw(st.integers(0, 9)) else [draw(ODD_LINES)]))
        lines += [""] * draw(st.sampled_from([0, 0, 1, 2]))
    encoding = format.encoding if format.encoding != "utf-7" else "utf-8"
    data = bytearray(draw(st.sampled_from(["\n", "\r\n"])).join(lines).encode(encoding, "replace"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\n", b" ", b"\xff", b"\0"])
        )
    return bytes(data)


@given(data=st.data(), format=formats())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_read_right_or_refused_in_a_line(
    tmp_path: Path, data: st.DataObject, format: ColumnFormat
) -> None:
    check_column_file(tmp_path / "file.txt", data.draw(column_files(format)), format)


@given(data=st.binary(max_size=80), format=formats())
@example(data=b"+2AA- O\n", format=ColumnFormat(encoding="utf-7"))
@example(data=b"\\ud800 O\n", format=ColumnFormat(encoding="unicode_escape"))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_is_read_or_refused_in_a_line(tmp_path: Path, data: bytes, format: ColumnFormat) -> None:
    check_column_file(tmp_path / "file.txt", data, format)


def refusal(path: Path, format: ColumnFormat) -> str:
    with pytest.raises((CorpusError, RecipeError, MissingError)) as caught:
        parse_column_file(path, format)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    "encoding",
    ["rot13", "hex", "base64", "zlib", "bz2", "uu", "quopri", "idna", "punycode", "unicode_escape", "utf-7",
     "raw_unicode_escape", "undefined", "utf_7", "UTF7", "klingon", "", "utf-8\0", "\ud800", "../x", "a.b",
     "encodings.aliases", "\x1b[31m", "x" * 10**6, "-", "é"],
    ids=quoted,
)  # fmt: skip
def test_only_encodings_of_text_files_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"a O\n")
    found = refusal(path, ColumnFormat(encoding=encoding))
    assert found.startswith(f"{path}: the recipe reads it in encoding ")
    assert "expected a name like utf-8" in found


@pytest.mark.parametrize(
    "encoding", ["utf-8", "UTF8", "u8", "latin-1", "ISO-8859-1", "cp1252", "utf_16", "gbk"]
)
def test_the_usual_names_of_encodings_are_known(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "file.txt").write_bytes("a O\n".encode(encoding))
    assert parse_column_file(tmp_path / "file.txt", ColumnFormat(encoding=encoding)).documents == 0


def test_a_compressed_file_is_never_unpacked(tmp_path: Path) -> None:
    """A bomb: the codec is refused before it is given a byte."""
    import zlib

    path = tmp_path / "file.txt"
    path.write_bytes(zlib.compress(b"a O\n" * 10**7, 9))
    assert "encoding 'zlib'" in refusal(path, ColumnFormat(encoding="zlib"))


@pytest.mark.parametrize(("encoding", "line"), [("utf-8", 2), ("utf-8-sig", 2), ("utf-16-le", 3)])
def test_an_undecodable_byte_is_named_with_its_line(tmp_path: Path, encoding: str, line: int) -> None:
    """In UTF-16 the byte 0x0a is also half of other characters; a mark is not counted by its codec."""
    texts = {"utf-8": b"a O\nb\xff O\n", "utf-8-sig": b"\xef\xbb\xbfa O\nb\xff O\n"}
    texts["utf-16-le"] = "\u0a0a O\nb O\n".encode("utf-16-le") + b"\x00\xd8" + "x O\n".encode("utf-16-le")
    path = tmp_path / "file.txt"
    path.write_bytes(texts[encoding])
    byte = "00" if encoding == "utf-16-le" else "ff"
    found = refusal(path, ColumnFormat(encoding=encoding))
    assert found.startswith(f"{path}:{line}: found byte 0x{byte}, expected text in {encoding}")


@pytest.mark.parametrize(
    ("data", "format"),
    [
        ("a\t" + "B" * 10**6 + "\n", ColumnFormat()),
        ("a\tI-" + "X" * 10**6 + "\n", ColumnFormat()),
        ("a\tB-" + "X" * 10**6 + "\nb\tO\n", ColumnFormat(scheme="BIOES")),
        ("a\tB-" + "X" * 10**6 + "\n", ColumnFormat(types={"Y" * 10**6: "Z"})),
        ("x" * 10**6 + "\tO\n", ColumnFormat(segmentation_digit=True)),
        ("a \x1b]0;owned\x07\n", ColumnFormat()),
        ("a B-\u202e\n", ColumnFormat(types={"X": "\x1b[31m"})),
        ("a O\n", ColumnFormat(types={"X": "Y" * 10**6 + " "})),
    ],
    ids=quoted,
)
def test_no_message_is_long_or_speaks_to_the_terminal(
    tmp_path: Path, data: str, format: ColumnFormat
) -> None:
    path = tmp_path / "file.txt"
    path.write_text(data, "utf-8")
    assert str(path) in refusal(path, format)


def test_a_type_with_a_blank_is_the_recipes_fault(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("a B-X\n")
    found = refusal(tmp_path / "file.txt", ColumnFormat(types={"X": "a b"}))
    assert "its format maps the type 'X' to 'a b'; expected a type without blanks" in found


LONG = {
    "one long line": "a" * 3_000_000 + "\tO\n",
    "many columns": "a " * 1_000_000 + "O\n",
    "a long tag": "a\tB-" + "X" * 3_000_000 + "\n",
    "many lines": "a\tO\n" * 400_000,
    "many sentences": "a\tO\n\n" * 300_000,
    "blank lines": " \n" * 1_500_000 + "a\tO\n",
    "one long entity": "a\tB-X\n" + "b\tI-X\n" * 300_000,
    "an error at the end": "a\tO\n" * 300_000 + "a\n",
    "a long sentence with an error": "a\tB-X\n" + "b\tI-X\n" * 200_000 + "c\tI-Y\n",
    "a byte at the end": "a\tO\n" * 300_000 + "\udcff",
    "carriage returns": "a\tO\r\n" * 300_000 + "\r x",
}


@pytest.mark.parametrize("name", LONG)
def test_time_grows_with_the_size_alone(tmp_path: Path, name: str) -> None:
    """Three megabytes take about a second; with the square of their size they would take hours."""
    path = tmp_path / "file.txt"
    path.write_text(LONG[name], "utf-8", errors="surrogateescape")
    begin = time.process_time()
    answer(lambda: parse_column_file(path, ColumnFormat()), path.name)
    assert time.process_time() - begin < 20


WITH_TEXT, WITH_TOKENS = JsonlFormat(text="text", spans="spans", language="es"), JsonlFormat()
LONG_JSON = {
    "many keys, one twice": (
        "{" + "".join(f'"{i}": 0, ' for i in range(200_000)) + '"199999": 0}',
        WITH_TOKENS,
    ),
    "many sentences with an entity each": (
        json.dumps({"text": "Ab. " * 10_000, "spans": [(4 * i, 4 * i + 2, "X") for i in range(10_000)]}),
        WITH_TEXT,
    ),
    "one entity over all": (json.dumps({"text": "Ab. " * 10_000, "spans": [(0, 39_999, "X")]}), WITH_TEXT),
}


@pytest.mark.parametrize("name", LONG_JSON)
def test_time_of_json_lines_grows_with_the_size_alone(tmp_path: Path, name: str) -> None:
    """With the square of the size, the shortest of these would take a minute."""
    line, format = LONG_JSON[name]
    (tmp_path / "file.jsonl").write_text(line + "\n")
    begin = time.process_time()
    answer(lambda: parse_jsonl(tmp_path / "file.jsonl", format), "file.jsonl")
    assert time.process_time() - begin < 20


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "zero", tmp_path / "x\0y", tmp_path / ("x" * 5000)):
        with pytest.raises(MissingError, match=r"cannot be read \(not a file\); put a column file there"):
            parse_column_file(path, ColumnFormat())
    recipe = CorpusRecipe(train=str(tmp_path / "pipe"), dev="x\n", test="y", source="s\n" * 10**6)
    with pytest.raises(MissingError, match=r"no such file \(corpus\.train\)") as caught:
        read_corpus(recipe)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("limit", "expected"), [(0, [0, 1, 2, 3, 4]), (2, [0, 2]), (9, [0, 1, 2, 3, 4])])
def test_evenly_spread(limit: int, expected: list[int]) -> None:
    assert evenly_spread(range(5), limit) == expected


@given(st.integers(0, 300), st.integers(0, 400) | st.just(2**70))
def test_evenly_spread_takes_what_it_says(count: int, limit: int) -> None:
    found = evenly_spread(range(count), limit)
    assert len(found) == (min(count, limit) if limit else count)
    assert found == sorted(set(found))
    assert found[:1] == [0][:count]


def test_evenly_spread_refuses_less_than_nothing() -> None:
    for items in ([], [1, 2]):
        with pytest.raises(ValueError, match="a limit is 0 or more, not -1"):
            evenly_spread(items, -1)


def test_a_token_of_any_length_is_no_token(tmp_path: Path) -> None:
    """BPE looks at it as often as it has letters, and its neighbours get as many characters."""
    path = tmp_path / "x"
    path.write_text(f"{'a' * 10_000} O\n", "utf-8")
    assert len(parse_column_file(path, ColumnFormat()).sentences) == 1
    path.write_text(f"a O\n{'a' * 10_001} O\n", "utf-8")
    with pytest.raises(CorpusError, match=r"x:2: found a token of 10,001 characters, expected"):
        parse_column_file(path, ColumnFormat())


def test_types_without_number_are_no_types(tmp_path: Path) -> None:
    """A CRF of a hundred thousand types would take a terabyte."""
    path = tmp_path / "x"
    path.write_text("".join(f"a B-{number}\n\n" for number in range(1001)), "utf-8")
    with pytest.raises(CorpusError, match="found 1,001 entity types, expected at most 1,000; name"):
        parse_column_file(path, ColumnFormat())
