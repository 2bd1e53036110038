"""CoNLL-U and .iob2 files: against the library `conllu`, and what is no token is counted."""

import gzip
from pathlib import Path

import conllu
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, MissingError
from backattn.corpus.conllu import EMPTY_NODES, RANGES, parse_conllu
from backattn.corpus.formats import read_corpus
from backattn.corpus.statistics import corpus_statistics
from backattn.corpus.tags import to_bioes
from backattn.recipe import ConlluFormat, CorpusRecipe

RANGED = """# sent_id = a
# text = Dámelo del Ebro
1-2\tDámelo\t_\tO
1\tDáme\t_\tO
2\tlo\t_\tO
3-4\tdel\t_\tO
3\tde\t_\tO
4\tel\t_\tB-LOC
4.1\tes\t_\tO
5\tEbro\t_\tI-LOC
"""
MISC = ConlluFormat(tag=9, tag_key="NER")
TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"], exclude_characters="\ufeff#_\u0085"),
    min_size=1, max_size=4,
)  # fmt: skip


def write(folder: Path, text: str, name: str = "file.conllu") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["file.conllu", "file.iob2", "file.conllu.gz"])
def test_ranges_and_empty_nodes_are_no_tokens(tmp_path: Path, name: str) -> None:
    file = parse_conllu(write(tmp_path, RANGED, name), ConlluFormat(tag=3))
    (sentence,) = file.sentences
    assert sentence.tokens == ("Dáme", "lo", "de", "el", "Ebro")
    assert sentence.tags == ("O", "O", "O", "B-LOC", "E-LOC")
    assert (file.comments, dict(file.no_tokens)) == (2, {RANGES: 2, EMPTY_NODES: 1})


def test_the_default_reads_universal_ner(tmp_path: Path) -> None:
    text = "# sent_id = 1\n1\tAna\tB-PER\t-\tx\n2\tva\tO\t-\tx\n\n# sent_id = 2\n1\tLugo\tB-LOC\t-\tx\n\n"
    file = parse_conllu(write(tmp_path, text), ConlluFormat())
    assert [s.tokens for s in file.sentences] == [("Ana", "va"), ("Lugo",)]
    assert [s.tags for s in file.sentences] == [("S-PER", "O"), ("S-LOC",)]


@st.composite
def sentences(draw: st.DrawFn) -> str:
    """A sentence of ten columns, with ranges, empty nodes and tags in MISC."""
    lines = [f"# text = {draw(TEXT)}"] * draw(st.integers(0, 2))
    open_type = ""
    for number in range(1, draw(st.integers(1, 6)) + 1):
        if draw(st.integers(0, 4)) == 0:
            lines.append(f"{number}-{number + 1}\t{draw(TEXT)}" + "\t_" * 8)
        kind = draw(st.sampled_from(["", "A", "B-C"]))
        prefix = "I" if kind and kind == open_type and draw(st.booleans()) else "B"
        open_type = kind
        misc = [f"NER={prefix}-{kind}"] * bool(kind) + ["SpaceAfter=No"] * draw(st.integers(0, 1))
        lines.append(f"{number}\t{draw(TEXT)}" + "\t_" * 7 + "\t" + ("|".join(misc) or "_"))
        if draw(st.integers(0, 4)) == 0:
            lines.append(f"{number}.1\t{draw(TEXT)}" + "\t_" * 7 + "\tNER=B-A")
    return "\n".join(lines) + "\n\n"


@given(data=st.lists(sentences(), min_size=1, max_size=4).map("".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_are_those_of_the_library(tmp_path: Path, data: str) -> None:
    file = parse_conllu(write(tmp_path, data), MISC)
    parsed = conllu.parse(data)
    expected = [[t for t in sentence if isinstance(t["id"], int)] for sentence in parsed]
    assert [list(s.tokens) for s in file.sentences] == [[t["form"] for t in s] for s in expected]
    tags = [[(t["misc"] or {}).get("NER", "O") for t in s] for s in expected]
    assert [s.tags for s in file.sentences] == [to_bioes(row, "IOB2") for row in tags]
    other = [t["id"] for s in parsed for t in s if not isinstance(t["id"], int)]
    assert file.no_tokens[RANGES] == sum(place[1] == "-" for place in other)
    assert sum(file.no_tokens.values()) == len(other)


@pytest.mark.parametrize(("text", "message"), [
    ("1\ta\tO\n2\tb\tO\n# x\n3\tc\tO\n", r":3: found a line that begins with # in the middle of a sentence"),
    ("1\ta\tO\n1\tb\tO\n", r":2: found the id '1', expected 2, .* put an empty line before it"),
    ("1\ta\tO\n3\tb\tO\n", r":2: found the id '3', expected 2, .*; mend the line"),
    ("a\tb\tO\n", r":1: found the id 'a', expected 1, .*kind = \"columns\""),
    ("1\ta\tO\n2\tb\n", r":2: found 2 tab-separated columns, expected 3 as in the lines before"),
    ("1 a O\n", r":1: found 1 tab-separated column, expected the id in column 0, the token in column 1"),
    ("1\ta\tX\n", r":1: found tag 'X', expected O or one of B-TYPE, I-TYPE"),
    ("1\ta\tI-X\n", r':1: found I-X at the start .*orphans = "begin"'),
    ("1\t\tO\n", r":1: found an empty token"),
    ("1\ta\rb\tO\n", r":1: found a carriage return inside the line"),
    ("1\ta\ufeff\tO\n", r":1: found a byte order mark inside the line"),
    ("# only\n", r":1: found no sentence"),
    ("1" * 20 + "\ta\tO\n", r":1: found the id '1+"),
])  # fmt: skip
def test_other_files_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        parse_conllu(write(tmp_path, text), ConlluFormat())


def test_the_whole_line_and_the_file_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=":1: found a token of 10,001 characters"):
        parse_conllu(write(tmp_path, f"1\t{'x' * 10_001}\tO\n"), ConlluFormat())
    with pytest.raises(CorpusError, match=":1: more than 16 MiB on a line"):
        parse_conllu(write(tmp_path, "x" * (1 << 24) + "x"), ConlluFormat())
    bomb = write(tmp_path, ("#" * 1023 + "\n") * (1 << 15), "bomb.conllu.gz")
    with pytest.raises(CorpusError, match="unpacks to more than"):
        parse_conllu(bomb, ConlluFormat())
    (tmp_path / "zip").write_bytes(gzip.compress(RANGED.encode()))
    with pytest.raises(CorpusError, match=r"packed by gzip; end its name in \.gz"):
        parse_conllu(tmp_path / "zip", ConlluFormat())
    with pytest.raises(MissingError, match="not a file"):
        parse_conllu(tmp_path, ConlluFormat())


def test_a_corpus_counts_them(tmp_path: Path) -> None:
    path = str(write(tmp_path, RANGED))
    recipe = CorpusRecipe(train=path, dev=path, test=path, source="here", format=ConlluFormat(tag=3))
    text = corpus_statistics(read_corpus(recipe)).to_text()
    assert "multiword ranges" in text
    assert "empty nodes" in text
