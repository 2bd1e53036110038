"""Column files: every format by example, every fault by its message, and any bytes at all."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.corpus.formats import parse_column_file, read_column_file, read_corpus
from backattn.corpus.labelled import characters
from backattn.corpus.spans import Span, spans
from backattn.corpus.tags import check_bioes, to_bioes
from backattn.recipe import ColumnFormat, CorpusRecipe

CONLL2003 = ColumnFormat(scheme="IOB1", docstart="-DOCSTART-", encoding="iso-8859-1")
WEIBO = ColumnFormat(separator="tab", segmentation_digit=True)
GERMEVAL = ColumnFormat(
    token=1, tag=2, separator="tab", comment="#", types={"PER": "PER", "OTH": "MISC", "LOCderiv": ""}
)
TAB = ColumnFormat(separator="tab")


def write(folder: Path, data: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / "file.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode(encoding))
    return path


def read(folder: Path, data: str | bytes, format: ColumnFormat | None = None) -> list[str]:
    """Sentences as ``token/tag token/tag`` lines."""
    format = format or ColumnFormat()
    read = read_column_file(write(folder, data, format.encoding), format)
    return [" ".join(f"{t}/{g}" for t, g in zip(s.tokens, s.tags, strict=True)) for s in read]


def test_conll2003(tmp_path: Path) -> None:
    data = (
        "-DOCSTART- -X- -X- -X- O\n\n"
        "Köln Köln NE I-NC I-LOC\nBonn Bonn NE I-NC B-LOC\nruft rufen VVFIN I-VC O\n\n"
        "-DOCSTART- -X- -X- -X- O\n\nAmt Amt NN I-NC I-ORG\n"
    )
    assert read(tmp_path, data, CONLL2003) == ["Köln/S-LOC Bonn/S-LOC ruft/O", "Amt/S-ORG"]
    assert parse_column_file(tmp_path / "file.txt", CONLL2003).documents == 2


def test_a_document_line_parts_sentences_whatever_its_columns(tmp_path: Path) -> None:
    assert read(tmp_path, "a x O\n-DOCSTART- O\nb x O\n", CONLL2003) == ["a/O", "b/O"]


def test_conll2002(tmp_path: Path) -> None:
    assert read(tmp_path, "Ana NP B-PER\nGil NP I-PER\nva V O\n\n. Fp O\n") == [
        "Ana/B-PER Gil/E-PER va/O",
        "./O",
    ]


def test_words_become_characters_and_entities_keep_their_extent(tmp_path: Path) -> None:
    data = "1\t在\tO\n2\t北京\tB-LOC\n3\t大学\tI-LOC\n4\t王\tB-PER\n5\tAnna\tB-PER\n6\t。。\tO\n"
    words = ColumnFormat(token=1, tag=2, separator="tab")
    assert read(tmp_path, data, words) == ["在/O 北京/B-LOC 大学/E-LOC 王/S-PER Anna/S-PER 。。/O"]
    assert read(tmp_path, data, structs.replace(words, split_characters=True)) == [
        "在/O 北/B-LOC 京/I-LOC 大/I-LOC 学/E-LOC 王/S-PER A/B-PER n/I-PER n/I-PER a/E-PER 。/O 。/O"
    ]


WORDS = st.tuples(st.text("ab", min_size=1, max_size=3), st.sampled_from(["O", "B-X", "I-X", "B-Y"]))


@given(st.lists(WORDS, min_size=1))
def test_characters_have_the_entities_of_the_words(rows: list[tuple[str, str]]) -> None:
    """By another way: from spans of words to spans of characters."""
    tokens = [token for token, _ in rows]
    tags = to_bioes([tag for _, tag in rows], "IOB1")
    starts = [0, *itertools.accumulate(map(len, tokens))]
    expected = [Span(starts[span.start], starts[span.end], span.type) for span in spans(tags)]
    letters, found = characters(tokens, tags)
    assert letters == tuple("".join(tokens))
    assert list(spans(found)) == expected


def test_weibo(tmp_path: Path) -> None:
    data = "王0\tB-PER.NAM\n五1\tI-PER.NAM\n90\tO\n\n\n人0\tB-PER.NOM\n"
    assert read(tmp_path, data, WEIBO) == ["王/B-PER.NAM 五/E-PER.NAM 9/O", "人/S-PER.NOM"]


@pytest.mark.parametrize(("scheme", "middle"), [("BIOES", "I"), ("BMES", "M")])
def test_character_files(tmp_path: Path, scheme: str, middle: str) -> None:
    data = f"北\tB-GPE\n京\t{middle}-GPE\n市\tE-GPE\n在\tO\n"
    format = ColumnFormat(scheme=scheme, separator="tab")  # type: ignore[arg-type]
    assert read(tmp_path, data, format) == ["北/B-GPE 京/I-GPE 市/E-GPE 在/O"]


def test_comments_an_id_column_and_mapped_types(tmp_path: Path) -> None:
    data = "#\tsource\t[2010]\t\n1\tAda\tB-PER\tO\n2\tFaust\tB-OTH\tO\n3\tWiener\tB-LOCderiv\tO\n"
    data += "\n#\tx\n1\t#\tO\tO\n"
    assert read(tmp_path, data, GERMEVAL) == ["Ada/S-PER Faust/S-MISC Wiener/O", "#/O"]


def test_types_are_mapped_after_the_entities_are_found(tmp_path: Path) -> None:
    """Two neighbours that come to share a type stay two."""
    format = ColumnFormat(scheme="IOB1", types={"gpe": "LOC", "geo": "LOC"})
    assert read(tmp_path, "a I-gpe\nb I-geo\nc I-geo\n", format) == ["a/S-LOC b/B-LOC c/E-LOC"]


def test_orphans_begin_an_entity_and_are_counted_where_the_recipe_says_so(tmp_path: Path) -> None:
    format = ColumnFormat(orphans="begin")
    assert read(tmp_path, "a I-X\nb I-X\nc B-X\nd I-Y\n", format) == ["a/B-X b/E-X c/S-X d/S-Y"]
    assert parse_column_file(tmp_path / "file.txt", format).orphans == 2
    with pytest.raises(RecipeError, match='orphans = "begin" with scheme BIOES'):
        read(tmp_path, "a O\n", ColumnFormat(scheme="BIOES", orphans="begin"))


@pytest.mark.parametrize(
    "data",
    [
        "a O\n\nb B-X\nc I-X\n",
        "a O\n\nb B-X\nc I-X",
        "\n\n a  O\n \t \n\nb\tB-X\nc   I-X \n\n\n",
        "a O\r\n\r\nb B-X\r\nc I-X\r\n",
        "a O\r\n\r\nb B-X\r\nc I-X\r",
        "\ufeffa O\n\nb B-X\nc I-X\n\n",
    ],
)
def test_blank_lines_line_ends_and_marks(tmp_path: Path, data: str) -> None:
    assert read(tmp_path, data) == ["a/O", "b/B-X c/E-X"]


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_unicode_separators_split_neither_lines_nor_columns(tmp_path: Path, separator: str) -> None:
    tokens = ["a\u2028b", "\x85", "x\u2029", "\u3000", "n\xa0n", "\x1c", "v\x0bf\x0c"]
    data = "".join(f"{token}{separator}O\n" for token in tokens)
    format = TAB if separator == "\t" else ColumnFormat()
    (sentence,) = read_column_file(write(tmp_path, data), format)
    assert list(sentence.tokens) == tokens


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16", "utf-8-sig"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path, "Zoë B-PER\n", ColumnFormat(encoding=encoding)) == ["Zoë/S-PER"]


BAD = [
    (b"", ColumnFormat(), "file.txt:1: found no sentence, expected at least one token; put"),
    (b"\n \n\n", ColumnFormat(), "file.txt:1: found no sentence"),
    (b"-DOCSTART- O\n\n", CONLL2003, "file.txt:1: found no sentence"),
    (
        b"a O\n\n-DOCSTART- O\n",
        ColumnFormat(),
        "file.txt:3: found '-DOCSTART-', expected a token, not a separator of documents; set docstart =",
    ),
    (
        b"a O\n\nb\xff O\n",
        ColumnFormat(),
        "file.txt:3: found byte 0xff, expected text in utf-8; give the format",
    ),
    ("a O\n".encode("utf-16"), ColumnFormat(), "file.txt:1: found byte 0xff, expected text in utf-8"),
    ("a O\n".encode("utf-16-le"), ColumnFormat(), "file.txt:1: found a NUL character, expected lines"),
    (b"a O\rb O\rc O\r", ColumnFormat(), "file.txt:1: found a carriage return inside the line"),
    (b"a O\nb\n", ColumnFormat(), "file.txt:2: found 1 column, expected 2 as in the lines before; mend"),
    (
        b"a\n",
        ColumnFormat(),
        "file.txt:1: found 1 column, expected the token in column 0 and the tag in column -1",
    ),
    (
        b"a\tO\n",
        GERMEVAL,
        "file.txt:1: found 2 columns, expected the token in column 1 and the tag in column 2",
    ),
    (b"a b O\nc d e O\n", ColumnFormat(), "file.txt:2: found 4 columns, expected 3 as in the lines before"),
    (
        b"a O\nb per\n",
        ColumnFormat(),
        "file.txt:2: found tag 'per', expected O or one of B-TYPE, I-TYPE; mend",
    ),
    (b"a O\n\n\nb I-X\n", ColumnFormat(), "file.txt:4: found I-X at the start of the sentence, expected B-X"),
    (b"a O\nb I-X\n", ColumnFormat(), 'let it begin an entity: orphans = "begin"'),
    (b"a B-X\nb O\n", ColumnFormat(scheme="BIOES"), "file.txt:2: found O after B-X, expected I-X or E-X"),
    (
        b"1\ta\tB-X\n",
        GERMEVAL,
        "file.txt:1: found type X, expected one of PER, OTH, LOCderiv; give it a type",
    ),
    (b"a\tO\n\tO\n", TAB, "file.txt:2: found an empty token, expected some text in the token column"),
    (b"a\tO\n \tO\n", TAB, "file.txt:2: found an empty token"),
    (
        "王0\tO\n五\tO\n".encode(),
        WEIBO,
        "file.txt:2: found '五', expected a token with its segmentation digit",
    ),
    (
        "王0\tO\n五²\tO\n".encode(),
        WEIBO,
        "file.txt:2: found '五²', expected a token with its segmentation digit",
    ),
    (b"0\tO\n", WEIBO, "file.txt:1: found an empty token"),
]


@pytest.mark.parametrize(("data", "format", "message"), BAD)
def test_what_does_not_fit_is_named_with_file_and_line(
    tmp_path: Path, data: bytes, format: ColumnFormat, message: str
) -> None:
    with pytest.raises(CorpusError) as caught:
        read_column_file(write(tmp_path, data), format)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_encoding_is_the_recipes_fault(tmp_path: Path) -> None:
    for encoding in ("klingon", "hex"):
        path = write(tmp_path, b"a O\n")
        with pytest.raises(RecipeError, match=f"encoding '{encoding}', which Python does not know"):
            read_column_file(path, ColumnFormat(encoding=encoding))


def test_a_missing_file_says_where_to_get_it_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKATTN_DATA", str(tmp_path))
    (tmp_path / "train").write_text("a O\n")
    recipe = CorpusRecipe(train="train", dev="dev", test="test", source="the archive")
    with pytest.raises(MissingError) as caught:
        read_corpus(recipe)
    message = str(caught.value)
    both = f"{tmp_path / 'dev'}: no such file (corpus.dev), nor {tmp_path / 'test'} (corpus.test)"
    assert message.startswith(f"{both}; get them from the archive; put them there, or set BACKATTN_DATA")
    (tmp_path / "dev").write_text("a O\n")
    with pytest.raises(
        MissingError, match=r"test: no such file \(corpus.test\); get it from the archive; put"
    ):
        read_corpus(recipe)
    with pytest.raises(MissingError, match="cannot be read"):
        read_column_file(tmp_path, ColumnFormat())


def test_a_corpus_has_its_three_splits_and_what_was_counted(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / split).write_text(f"-DOCSTART- O\n\n{split} I-X\n")
    format = ColumnFormat(docstart="-DOCSTART-", orphans="begin")
    path = str(tmp_path)
    recipe = CorpusRecipe(
        train=f"{path}/train", dev=f"{path}/dev", test=f"{path}/test", source="here", format=format
    )
    corpus = read_corpus(recipe)
    assert [(name, s[0].tokens, s[0].tags) for name, s in corpus.splits()] == [
        (split, (split,), ("S-X",)) for split in ("train", "dev", "test")
    ]
    assert corpus.documents == corpus.orphans == {"train": 1, "dev": 1, "test": 1}


line_bits = st.sampled_from(
    [b"a", b" ", b"\t", b"\n", b"\n\n", b"\r", b"\r\n", b" O\n", b" B-X\n", b" I-X\n", b"#", b"0", b"\xff",
     "王0\tB-X\n".encode(), "\u2028".encode(), "\ufeff".encode(), b"-DOCSTART-", b"\0", b"-"]
)  # fmt: skip
FORMATS = [
    ColumnFormat(),
    CONLL2003,
    WEIBO,
    GERMEVAL,
    TAB,
    ColumnFormat(orphans="begin"),
    ColumnFormat(scheme="BMES", encoding="utf-16"),
    ColumnFormat(token=-5, tag=7),
]


@given(
    data=st.binary(max_size=60) | st.lists(line_bits, max_size=30).map(b"".join),
    format=st.sampled_from(FORMATS),
)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_sentences_or_a_corpus_error(
    tmp_path: Path, data: bytes, format: ColumnFormat
) -> None:
    path = write(tmp_path, data)
    try:
        sentences = read_column_file(path, format)
    except CorpusError as error:
        message = str(error)
    else:
        message = f"{path}:"
        assert sentences
        for sentence in sentences:
            assert all(token.strip(" \t\r\n") for token in sentence.tokens)
            check_bioes(sentence.tags)
    assert message.startswith(f"{path}:")


words = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n\t \ufeff"), min_size=1, max_size=5
)


@given(sentences=st.lists(st.lists(words, min_size=1, max_size=6), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, sentences: list[list[str]]) -> None:
    data = "\n\n".join("\n".join(f"{word}\tO" for word in words) for words in sentences)
    found = read_column_file(write(tmp_path, data), TAB)
    assert [list(sentence.tokens) for sentence in found] == sentences


def test_the_corpus_is_read_without_torch() -> None:
    code = (
        "import backattn.corpus.statistics, backattn.corpus.formats, sys; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


REAL = [
    ("conll2002-es/esp.{}", ("train", "testa", "testb"), ColumnFormat(orphans="begin"),
     (8323, 1915, 1517), (264715, 52923, 51533), (1, 1, 1)),
    ("weibo-zh/weiboNER_2nd_conll.{}", ("train", "dev", "test"),
     ColumnFormat(orphans="begin", separator="tab", segmentation_digit=True),
     (1350, 270, 270), (73778, 14509, 14842), (10, 0, 4)),
    ("europarl-de/{}.tsv", ("train", "dev", "test"), ColumnFormat(scheme="IOB1", separator="tab"),
     (3184, 354, 858), (80467, 9241, 20697), (0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "names", "format", "sentences", "tokens", "orphans"), REAL)
def test_the_papers_corpora_have_the_papers_counts(
    pattern: str,
    names: tuple[str, ...],
    format: ColumnFormat,
    sentences: tuple[int, ...],
    tokens: tuple[int, ...],
    orphans: tuple[int, ...],
) -> None:
    paths = [Path(os.environ.get("BACKATTN_DATA", "data")) / "ner" / pattern.format(name) for name in names]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"{paths[0]} is not there: point BACKATTN_DATA at the corpora")
    files = [parse_column_file(path, format) for path in paths]
    assert tuple(len(file.sentences) for file in files) == sentences
    assert tuple(sum(map(len, file.sentences)) for file in files) == tokens
    assert tuple(file.orphans for file in files) == orphans


def test_a_file_without_empty_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.conll"
    for text, found in (
        ("x O\n" * 1001, "1,001 tokens in 1 sentence"),
        ("x O\n" * 1001 + "\n" + "x O\n" * 1000, "2,001 tokens in 2 sentences"),  # one is there by chance
    ):
        path.write_text(text)
        with pytest.raises(CorpusError, match=rf"long\.conll:1: found {found}, expected an empty line after"):
            read_column_file(path, ColumnFormat())
    path.write_text("x O\n" * 1001 + "\nx O\n")
    assert list(map(len, read_column_file(path, ColumnFormat()))) == [1001, 1]
