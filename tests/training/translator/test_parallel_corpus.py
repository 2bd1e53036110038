import gzip
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.corpus import evenly_spread
from backattn.recipe import DictionaryFile, ParallelFile, TranslatorTraining
from backattn.training.translator.parallel_corpus import SentencePair, read_pairs, read_training_text
from bounds import bounded


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_columns_in_any_order_with_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "names.tsv", "type\ten\tde", "city\tMunich\tMünchen", "city\tCologne\tKöln")
    pairs, empty = read_pairs(ParallelFile(path=path, header=True, foreign=2, english=1))
    assert pairs == [SentencePair("München", "Munich"), SentencePair("Köln", "Cologne")]
    assert empty == 0


def test_line_aligned_files(tmp_path: Path) -> None:
    foreign = write(tmp_path / "a.de", "eins", "", "drei")
    english = write(tmp_path / "a.en", "one", "two", "three")
    pairs, empty = read_pairs(ParallelFile(path=foreign, english_path=english))
    assert (pairs, empty) == ([SentencePair("eins", "one"), SentencePair("drei", "three")], 1)


@pytest.mark.parametrize("key", [{"header": True}, {"group": 2}, {"only": ("a",)}, {"exclude": ("a",)}])
def test_line_aligned_files_have_no_columns_to_speak_of(tmp_path: Path, key: dict[str, Any]) -> None:
    path = write(tmp_path / "a.de", "eins")
    with pytest.raises(RecipeError, match=r"a\.de: header, group, only and exclude refer to columns; a file"):
        read_pairs(ParallelFile(path=path, english_path=path, **key))


def test_empty_cells_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "names.tsv", "Rom\tRome", "\tParis", "Wien\t ", "Prag\tPrague")
    assert read_pairs(ParallelFile(path=path)) == (
        [SentencePair("Rom", "Rome"), SentencePair("Prag", "Prague")],
        2,
    )


def test_groups_are_taken_alone_or_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "news.tsv", "a\tA\t2012", "b\tB\t2013", "c\tC\t2014")
    only, _ = read_pairs(ParallelFile(path=path, group=2, only=("2012", "2014")))
    rest, _ = read_pairs(ParallelFile(path=path, group=2, exclude=("2013",)))
    assert only == rest == [SentencePair("a", "A"), SentencePair("c", "C")]


def test_a_byte_order_mark_and_carriage_returns_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "windows.tsv"
    path.write_bytes(b"\xef\xbb\xbfeins\tone\r\nzwei\ttwo\r\n")
    assert read_pairs(ParallelFile(path=str(path)))[0] == [
        SentencePair("eins", "one"),
        SentencePair("zwei", "two"),
    ]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.tsv", "eins\u2028zwei\tone\x85two")
    assert read_pairs(ParallelFile(path=path))[0] == [SentencePair("eins\u2028zwei", "one\x85two")]


@given(size=st.integers(0, 60), limit=st.integers(0, 70))
def test_evenly_spread_takes_so_many_in_order_with_even_gaps(size: int, limit: int) -> None:
    taken = evenly_spread(range(size), limit)
    assert len(taken) == (min(size, limit) if limit else size)
    gaps = {after - before for before, after in itertools.pairwise(taken)}
    assert all(gap >= 1 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


def training(tmp_path: Path, lines: list[str], **options: int) -> TranslatorTraining:
    return TranslatorTraining(
        parallel=(ParallelFile(path=write(tmp_path / "train.tsv", *lines), **options),),
        valid=ParallelFile(path=write(tmp_path / "valid.tsv", "v1\tV1", "v2\tV2")),
        test=ParallelFile(path=write(tmp_path / "test.tsv", "t1\tT1")),
    )


def test_held_out_pairs_leave_the_training_by_either_side(tmp_path: Path) -> None:
    lines = ["a\tA", "v1\tother", "other\tV2", "t1\tT1", "b\tB", "\tV1", "t1 \tx", "T1\tt1"]
    text = read_training_text(training(tmp_path, lines, repeat=2))
    kept = [SentencePair("a", "A"), SentencePair("b", "B"), SentencePair("T1", "t1")]
    assert list(text.train) == kept * 2
    assert (len(text.valid), len(text.test)) == (2, 1)
    (counts,) = text.files
    assert (counts.pairs, counts.repeat, counts.empty, counts.held_out) == (3, 2, 1, 4)
    # Second opinion: every line is accounted for.
    assert counts.pairs + counts.empty + counts.held_out == len(lines)


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="gives no pair to train on"):
        read_training_text(training(tmp_path, ["v1\tV1", "\t"]))


def test_nothing_to_hold_out_is_refused(tmp_path: Path) -> None:
    recipe = training(tmp_path, ["a\tA"])
    write(tmp_path / "test.tsv", "\tT1")
    with pytest.raises(CorpusError, match=r"test\.tsv: no pair to hold out"):
        read_training_text(recipe)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"a\tA\nb\n", {}, r"bad\.tsv:2: expected at least 2 columns separated by tabs, found 1"),
        (b"a\tA\n\n", {}, r"bad\.tsv:2: expected at least 2 columns"),
        (b"a\tA\n", {"group": 3}, r"bad\.tsv:1: expected at least 4 columns separated by tabs, found 2"),
        (b"a\tA\nb\tB\xff\n", {}, r"bad\.tsv:2: byte 4 of the line is not UTF-8"),
    ],
)
def test_malformed_lines_name_file_and_line(
    tmp_path: Path, content: bytes, options: dict[str, int], message: str
) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_pairs(ParallelFile(path=str(path), **options))


def test_line_aligned_files_of_different_length_are_refused(tmp_path: Path) -> None:
    foreign, english = write(tmp_path / "a.de", "eins", "zwei"), write(tmp_path / "a.en", "one")
    with pytest.raises(CorpusError, match=r"a\.de: 2 lines, but .*a\.en has 1"):
        read_pairs(ParallelFile(path=foreign, english_path=english))


def test_a_group_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "news.tsv", "a\tA\t2012")
    with pytest.raises(RecipeError, match="exclude names '2019', but column 2 holds 2012"):
        read_pairs(ParallelFile(path=path, group=2, exclude=("2019",)))
    with pytest.raises(RecipeError, match="only and exclude need group"):
        read_pairs(ParallelFile(path=path, only=("2012",)))


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"absent\.tsv: cannot be read .* or set BACKATTN_DATA"):
        read_pairs(ParallelFile(path=str(tmp_path / "absent.tsv")))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tsv")
    (tmp_path / "zero.tsv").symlink_to("/dev/zero")
    for name in ("pipe.tsv", "zero.tsv"):
        with pytest.raises(
            MissingError, match=r"\.tsv: cannot be read .*not a regular file.* put the parallel file"
        ):
            read_pairs(ParallelFile(path=str(tmp_path / name)))


CEDICT = (
    "\ufeff# CC-CEDICT",
    "#! version=1",
    "老師 老师 [lao3 shi1] /teacher/CL:個|个[ge4],位[wei4]/",
    "白薯 白薯 [bai2 shu3] /see 紅薯|红薯[hong2 shu3]/(coll.) sweet potato; yam/",
    "乒 乒 [ping1] /(onom.) ping; bing/",
    "照 照 [zhao4] /Taiwan pr. [zhao4]/(see also 裸照[luo3 zhao4] (slang)) according to, in line with/",
    "王 王 [Wang2] /surname Wang/",
    "盲人 盲人 [mang2 ren2] /lit. blind person/",
    "彥 彦 [yan4] /old variant of 彥|彦[yan4]/",
    "",
)
GLOSSES = {
    "老师": "teacher", "白薯": "sweet potato", "乒": "ping", "照": "according to", "王": "Wang",
    "盲人": "blind person",
}  # fmt: skip
ENTRIES = [SentencePair(*entry) for entry in GLOSSES.items()]


@pytest.mark.parametrize("packed", [False, True])
def test_a_dictionary_gives_a_pair_for_each_entry_that_is_translated(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("cedict.txt.gz" if packed else "cedict.u8")
    text = "".join(line + "\r\n" for line in CEDICT).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    assert read_pairs(DictionaryFile(path=str(path))) == (ENTRIES, 1)
    assert read_pairs(DictionaryFile(path=str(path), limit=2))[0] == evenly_spread(ENTRIES, 2)


def test_what_is_no_entry_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "cedict.u8", *CEDICT[:3], "老师 teacher")
    with pytest.raises(
        CorpusError, match=r"cedict\.u8:4: '老师.*teacher' is no entry of a dictionary; expected"
    ):
        read_pairs(DictionaryFile(path=path))


@pytest.mark.parametrize(
    "content",
    [b"plain text\n", gzip.compress(b"# a comment\n" * 999)[:-12], b""],
    ids=["plain", "cut off", "empty"],  # the packed bytes hold the time of day: no name for two processes
)
def test_a_file_that_is_not_packed_or_not_whole_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cedict.txt.gz"
    path.write_bytes(content)
    if content:
        with pytest.raises(CorpusError, match=r"gz: not whole, or not packed by gzip; fetch it again"):
            read_pairs(DictionaryFile(path=str(path)))
    else:
        assert read_pairs(DictionaryFile(path=str(path))) == ([], 0)  # as gzip itself reads it


def test_dictionaries_train_beside_the_parallel_text_less_what_is_held_out(tmp_path: Path) -> None:
    files = {
        name: ParallelFile(path=write(tmp_path / f"{name}.tsv", line))
        for name, line in {"train": "你好\thello", "valid": "老师\tmaster", "test": "乓\tpong"}.items()
    }
    dictionary = DictionaryFile(path=write(tmp_path / "cedict.u8", *CEDICT), repeat=2)
    text = read_training_text(
        TranslatorTraining(
            parallel=(files["train"],), dictionaries=(dictionary,), valid=files["valid"], test=files["test"]
        )
    )
    assert text.train == (SentencePair("你好", "hello"), *ENTRIES[1:], *ENTRIES[1:])
    counts = text.files[1]
    assert (counts.pairs, counts.repeat, counts.empty, counts.held_out) == (5, 2, 1, 1)


@pytest.mark.parametrize(
    "gloss",
    [
        "(" * 30_000 + ")" * 30_000,
        "(" * 60_000,
        ")" * 60_000,
        "([" * 30_000,
        "(a" * 20_000 + "b)" * 20_000,
        "/" * 60_000,
        "/ " * 30_000 + "x",
        " " * 60_000 + "x",
        "word " * 12_000 + "(",
        ";," * 30_000,
        "CL:" * 20_000,
    ],
    ids=lambda gloss: gloss[:4],
)
def test_a_line_of_brackets_takes_no_time(tmp_path: Path, gloss: str) -> None:
    path = write(tmp_path / "cedict.u8", *CEDICT[:3], *[f"老师 老师 [lao3 shi1] /{gloss}/"] * 5)
    with bounded():
        pairs, empty = read_pairs(DictionaryFile(path=path))
    assert len(pairs) + empty >= 5


@pytest.mark.parametrize(
    "line", ["a" * 60_000, "[" * 60_000, "a b [" * 12_000, "a b [c] /" * 7_000 + "x", "a " * 30_000]
)
def test_nor_does_one_that_is_no_entry(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "cedict.u8", line)
    with bounded(), pytest.raises(CorpusError, match=r"cedict\.u8:1: .* is no entry of a dictionary"):
        read_pairs(DictionaryFile(path=path))


def test_remarks_within_remarks_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "cedict.u8",
        "师 师 [shi1] /(a (b [c (d)] e) f) teacher [g]/",
        "生 生 [x] /" + "(" * 40 + ")" * 40 + "life/",
    )
    assert read_pairs(DictionaryFile(path=path)) == ([SentencePair("师", "teacher")], 1)


def test_a_file_that_unpacks_to_far_more_than_text_does_is_refused(tmp_path: Path) -> None:
    """Two megabytes that become gigabytes, as lines and as one line."""
    for name, block in (("line", b"\0" * (1 << 20)), ("lines", b"eins\tone\n" * (1 << 17))):
        path = tmp_path / f"{name}.tsv.gz"
        packed = gzip.compress(block)
        path.write_bytes(packed * 1500)  # parts of one file, as gzip allows
        with bounded(), pytest.raises(CorpusError) as caught:
            read_pairs(ParallelFile(path=str(path)))
        assert f"{path}: unpacks to more than " in str(caught.value)
        assert "unpack it by hand (gunzip) and name that file" in str(caught.value)


def test_a_small_file_may_be_packed_well(tmp_path: Path) -> None:
    path = tmp_path / "names.tsv.gz"
    path.write_bytes(gzip.compress(b"eins\tone\n" * 100_000))
    assert len(read_pairs(ParallelFile(path=str(path)))[0]) == 100_000


def test_a_hole_in_a_file_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "names.tsv"
    path.write_bytes(b"eins\tone\n")
    os.truncate(path, 1 << 30)
    with bounded(), pytest.raises(CorpusError, match=r"names\.tsv:2: more than 16 MiB on a line"):
        read_pairs(ParallelFile(path=str(path)))
