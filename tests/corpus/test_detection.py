"""The form of a column file is found from the file alone: what is written in any form is read back equal."""

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.common.errors import BackattnError, CorpusError, MissingError
from backattn.corpus import Sentence, detection
from backattn.corpus.column_roles import NO_TYPE
from backattn.corpus.detection import Detected, detect
from backattn.corpus.spans import spans
from backattn.recipe import ConlluFormat, JsonlFormat
from bounds import bounded
from examples import examples

LETTERS = {
    "IOB2": "BIIB",
    "BIOES": "BIES",
    "BILOU": "BILU",
    "BMES": "BMES",
    "BMEWO": "BMEW",
}  # fmt: skip  (begin, inside, end, single)
WORDS = ["Ana", "Ruiz", "vive", "en", "Lugo", "#rt", "2024", "O", "København", "über", "--", "B-52", "x", "ß"]
TYPES = ["PER", "LOC", "geo-loc", "PER.NAM", "creative_work"]


@st.composite
def corpora(draw: st.DrawFn, untyped: bool, bare: bool, characters: bool) -> list[Sentence]:
    """Sentences in BIOES with at least one entity and one word outside; of bare types, no two in a row."""
    words = st.sampled_from("北京大学在很好" if characters else WORDS)
    kinds = st.sampled_from([NO_TYPE] if untyped else TYPES)
    made = []
    for _ in range(draw(st.integers(2, 6))):
        tokens, tags = [draw(words)], ["O"]
        for _ in range(draw(st.integers(0, 4))):
            length, kind = draw(st.integers(1, 3)), draw(kinds)
            if draw(st.booleans()) and (not bare or tags[-1] == "O"):
                letters = "S" if length == 1 else "B" + "I" * (length - 2) + "E"
                tags += [f"{letter}-{kind}" for letter in letters]
            else:
                tags += ["O"] * length
            tokens += [draw(words) for _ in range(length)]
        made.append(Sentence(tuple(tokens), tuple(tags)))
    # Each type on a line that is no comment: a bare type tells a token from a comment.
    used = {draw(kinds), *(tag[2:] for sentence in made for tag in sentence.tags if tag != "O")}
    last = "京" if characters else "Lugo"
    return [*made, *(Sentence((last, "x"), (f"S-{kind}", "O")) for kind in sorted(used))]


def spelled(sentence: Sentence, scheme: str) -> list[str]:
    """The tags of BIOES in another scheme, by the definition of each and not by the reader's tables."""
    found = ["O"] * len(sentence)
    previous = None
    for span in spans(sentence.tags):
        for place in range(span.start, span.end):
            first, last = place == span.start, place == span.end - 1
            if scheme == "IO":
                found[place] = span.type
                continue
            if scheme == "IOB1":
                touching = previous and previous.end == span.start and previous.type == span.type
                letter = "B" if first and touching else "I"
            else:
                begin, inside, end, single = LETTERS[scheme]
                if scheme == "IOB2":
                    letter = begin if first else inside
                else:
                    letter = single if first and last else begin if first else end if last else inside
            found[place] = f"{letter}-{span.type}"
        previous = span
    return found


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Sentence], bytes]:
    """A corpus, and its bytes in a random form."""
    scheme = draw(st.sampled_from([*LETTERS, "IOB1", "IO"]))
    untyped = scheme != "IO" and draw(st.booleans())
    characters = draw(st.booleans())
    corpus = draw(corpora(untyped, scheme == "IO", characters))
    if draw(st.integers(0, 5)) == 0:
        return corpus, rows_of(draw, corpus, scheme, untyped)
    separator = draw(st.sampled_from(["\t", " "]))
    ids, ranges, lemma, pos, chunk, inner, digits = (draw(st.booleans()) for _ in range(7))
    ranges = ranges and not digits
    enough = sum(map(len, corpus)) >= 5  # fewer do not tell digits of places in words
    comments, docstarts = draw(st.booleans()), draw(st.booleans())
    lines = ["-DOCSTART- -X- O", ""] if docstarts else []
    for number, sentence in enumerate(corpus):
        if comments:
            lines.append(draw(st.sampled_from(["# text = Ana vive", f"# sent_id = {number}", "#"])))
        digit = 1
        for place, (token, tag) in enumerate(zip(sentence.tokens, spelled(sentence, scheme), strict=True)):
            if ranges and ids and place == 1 and not docstarts and separator == "\t":
                lines.append(separator.join(["2-3", "vivelo", *["_"] * (lines[-1].count("\t") - 1)]))
            row = [str(place + 1)] if ids else []
            digit = 0 if token.startswith("#") else 1 - digit  # a sign is a word of its own
            row.append(f"{token}{digit}" if digits and enough else token)
            digit = 1 if token.startswith("#") else digit
            row += [token.lower()] if lemma else []
            row += [("NN", "VB")[place % 2]] if pos else []
            row += [("B-NP", "B-VP")[place % 2]] if chunk and not untyped and scheme != "IO" else []
            row.append(tag.split("-")[0] if untyped else tag)
            row += ["O"] if inner and not untyped and scheme != "IO" else []
            lines.append(separator.join(row))
        lines.append("")
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    text = ends.join(lines)
    if ranges:  # CoNLL-U is UTF-8
        return corpus, text.encode()
    encoding = draw(
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", *([] if characters else ["iso-8859-1"])])
    )
    return corpus, text.encode(encoding)


def rows_of(draw: st.DrawFn, corpus: list[Sentence], scheme: str, untyped: bool) -> bytes:
    """JSON lines, with fields of any names and of other lists."""
    names = draw(st.sampled_from([("words", "ner_tags"), ("tokens", "labels"), ('a"b', "c d")]))
    lines = []
    for number, sentence in enumerate(corpus):
        tags = [tag.split("-")[0] if untyped else tag for tag in spelled(sentence, scheme)]
        row = {"id": number, names[0]: sentence.tokens, "pos": ["NN"] * len(tags), names[1]: tags}
        lines.append(json.dumps(row, ensure_ascii=draw(st.booleans())))
    return "\n".join(lines).encode()


@given(st.data())
@settings(
    max_examples=examples(40),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_form_that_is_written_is_found_and_read_back(tmp_path: Path, data: st.DataObject) -> None:
    corpus, raw = data.draw(files())
    name = data.draw(st.sampled_from(["x.tsv", "x.tsv.gz"]))
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    found = detect([tmp_path / name])
    assert list(found.files[0].sentences) == corpus, found.format


def look(folder: Path, *texts: str | bytes, language: str = "") -> Detected:
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"{number}.txt")
        paths[-1].write_bytes(text if isinstance(text, bytes) else text.encode())
    return detect(paths, language)


def refusal(folder: Path, *texts: str | bytes) -> str:
    with pytest.raises(CorpusError) as caught:
        look(folder, *texts)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{folder}/")


SOURCES = "1\tAna\tana\tB-PER\tO\n2\tva\tir\tO\tB-LOC\n\n1\tRuiz\truiz\tB-PER\tO\n\n"


def test_what_could_be_otherwise_is_told_with_its_key(tmp_path: Path) -> None:
    found = look(tmp_path, SOURCES)
    assert (found.format.token, found.format.tag) == (1, 3)
    assert found.notes == (
        "column 2 could hold the tokens too (ana, ir, ruiz); to take it: corpus.format.token = 2",
        "column 4 holds tags too (B-LOC); to take it: corpus.format.tag = 4",
    )


def test_the_tags_of_conllu_may_be_among_its_features(tmp_path: Path) -> None:
    text = (
        "# text = Ana va\n1-2\tAnava\t_\t_\t_\t_\t_\t_\t_\t_\n"
        "1\tAna\tana\tPROPN\t_\t_\t2\tnsubj\t_\tName=B-PER|SpaceAfter=No\n"
        "2\tva\tir\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No\n\n"
    )
    found = look(tmp_path, text)
    assert found.format == ConlluFormat(token=1, tag=9, tag_key="Name")
    assert found.files[0].sentences == (Sentence(("Ana", "va"), ("S-PER", "O")),)
    assert found.files[0].no_tokens["multiword ranges"] == 1


def test_running_text_is_split_by_its_language(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "Ana va a Lugo.", "label": [[0, 3, "PER"], [9, 13, "LOC"]]},
        {"id": "b", "text": "No.", "label": []},
    ]
    found = look(tmp_path, "\n".join(map(json.dumps, rows)), language="es")
    assert found.format == JsonlFormat(text="text", spans="label", language="es")
    assert found.files[0].sentences[0] == Sentence(
        ("Ana", "va", "a", "Lugo", "."), ("S-PER", "O", "O", "S-LOC", "O")
    )


@pytest.mark.parametrize(
    ("text", "scheme", "orphans", "count"),
    [
        ("a I-X\nb B-X\n\nc I-Y\nd O\n", "IOB1", "refuse", 0),
        # A B- that IOB1 does not need: an IOB2 with a slip.
        ("a B-X\nb O\n\nc I-Y\nd O\n", "IOB2", "begin", 1),
        ("a B-X\nb O\n\nc B-Y\nd O\n", "IOB2", "refuse", 0),
    ],
)
def test_an_orphan_is_a_rule_or_a_slip(
    tmp_path: Path, text: str, scheme: str, orphans: str, count: int
) -> None:
    found = look(tmp_path, text)
    assert (found.format.scheme, found.format.orphans) == (scheme, orphans)
    assert found.files[0].orphans == count
    assert [note for note in found.notes if "orphans" in note] == [
        "I- tags that continue no entity, read as the beginning of one: 1; to refuse them: "
        'corpus.format.orphans = "refuse"'
    ] * bool(count)


def test_what_only_a_later_file_shows_counts(tmp_path: Path) -> None:
    """Comments, separators of documents, the other letters of a scheme, an encoding: all files are read."""
    plain = "Ana\tB-PER\nRuiz\tE-PER\nva\tO\n\n"
    found = look(
        tmp_path, plain, "# x\nLugo\tS-LOC\n\n", "-DOCSTART-\tO\n\nAna\tB-PER\nvon\tM-PER\nß\tE-PER\n"
    )
    assert (found.format.scheme, found.format.comment, found.format.docstart) == ("BMES", "#", "-DOCSTART-")


def test_a_head_tells_and_the_whole_file_is_read_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the head: comments, letters, an encoding; and a line that does not fit is named."""
    monkeypatch.setattr(detection, "_HEAD", 1 << 10)
    head = "Ana\tO\nva\tO\n\n" * 100
    assert len(head) > 1 << 10
    found = look(tmp_path, head + "# x\nLugo\tS-LOC\n")
    assert (found.format.scheme, found.files[0].comments, found.notes) == ("BIOES", 1, ())
    latin = look(tmp_path, (head + "Köln\tB-LOC\n").encode("iso-8859-1"))
    assert (latin.format.encoding, latin.files[0].sentences[-1].tokens) == ("iso-8859-1", ("Köln",))
    assert refusal(tmp_path, head + "Lugo\tX-LOC\n").startswith("0.txt:301: found tag 'X-LOC', expected ")


def test_windows_quotes_are_not_control_characters(tmp_path: Path) -> None:
    found = look(tmp_path, "„Köln“ B-LOC\nja O\n".encode("cp1252"))
    assert found.files[0].sentences[0].tokens[0] == "„Köln“"
    assert found.notes == (
        "the files are not UTF-8 and were read as cp1252 ('„Köln“'); if such words look wrong, name their "
        "encoding: corpus.format.encoding",
    )


@pytest.mark.parametrize(
    ("tokens", "language", "unit"),
    [
        ("北 京 好", "", "character"),
        ("北 京 好", "zh", "character"),
        ("北京 大学 好", "zh", "word"),
        ("a b c", "", "word"),
        ("a b c", "de", "word"),
        ("ก ข ค", "", "character"),
        ("김 이 박", "", "word"),
        ("北 京 好", "ko", "word"),
    ],
)
def test_the_unit_is_a_character_where_a_script_has_no_blanks(
    tmp_path: Path, tokens: str, language: str, unit: str
) -> None:
    found = look(tmp_path, "".join(f"{t} O\n" for t in tokens.split()) + "x B-LOC\n", language=language)
    assert found.unit == unit
    assert any("split_characters" in note for note in found.notes) == (tokens == "北京 大学 好")


def test_digits_of_places_in_words_are_no_part_of_tokens(tmp_path: Path) -> None:
    words = "科0 技1 全0 方1 位2 资0 讯1"
    weibo = look(tmp_path, "".join(f"{t}\tO\n" for t in words.split()) + "李0\tB-PER.NAM\n")
    assert weibo.format.segmentation_digit
    assert "".join(weibo.files[0].sentences[0].tokens) == "科技全方位资讯李"
    years = look(tmp_path, "".join(f"{t}\tO\n" for t in ("a0", "b1", "c3", "d0", "e1", "f0")) + "x0\tB-PER\n")
    assert not years.format.segmentation_digit


def test_a_word_may_be_the_name_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Tag\tO\nAna\tPER\n\n" + "Ana\tPER\nva\tO\n\n" * 9)
    assert detect([path]).files[0].sentences[0].tokens == ("Tag", "Ana")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ana vive en Lugo .\nva .\n", "0.txt:2: found 2 columns ('va .'), expected a token and its tag on "),
        (
            "Ana\nva\n",
            "0.txt:1: found 1 column ('Ana'), expected a token and its tag on each line, in columns",
        ),
        ("Ana NN\nva VB\n", "0.txt:1: found no column of tags (column 0 has Ana, va; column 1 has NN, VB), "),
        ("Word Tag\nAna B-PER\nva O\n", "0.txt:1: found 'Word Tag', the names of columns, expected a token"),
        # Its tag would be a type of its own.
        ("#\nWORD\tNER\n\n" + "Ana\tPER\nva\tO\n\n" * 40, r"0.txt:2: found 'WORD\tNER', the names of"),
        ("word ner pos\n" + "Ana B-PER N\nva O V\n\n" * 40, "0.txt:1: found 'word ner pos', the names of"),
        ("", "0.txt:1: found no token, expected a token a line"),
        ("\n\n \n", "0.txt:1: found no token, expected a token a line"),
        ("# x\n", "0.txt:1: found no column of tags (column 0 has #; column 1 has x), expected"),
        (
            '[{"tokens": ["Ana"]}]\n',
            "0.txt:1: expected a column file; this looks like JSON; run `backattn con",
        ),
        (
            '{"words": ["Ana"], "ner_tags": [3]}\n',
            "0.txt:1: found the fields words, ner_tags (the numbers of",
        ),
        (r'{"\ud800": ["Ana"], "tags": ["O"]}', "0.txt:1: found the fields tags, expected a list of tokens"),
        (
            '{"a": 1}\n',
            "0.txt:1: found the fields a, expected a list of tokens and one of tags as text such as",
        ),
        (
            '{"text": "Ana va", "spans": []}\n',
            "0.txt:1: found running text ('text') with spans, which is spl",
        ),
        ('{"words": ["Ana"], "tags": ["O"]}\n{"words": [\n', "0.txt:2: found "),
        (b"\x1f\x8b\x08rest", "0.txt: expected a column file, found a file packed by gzip"),
        (
            b"PAR1\x15\0" + b"a\tO\n" * (1 << 19) + b"PAR1",
            "0.txt: expected a column file, found a Parquet file",
        ),
        ("Ana\0\tB-PER\nva\tO\n", "0.txt:1: found a NUL character, expected lines"),
        ("Ana B-PER\nva O\nRuiz I-LOC\n1 2 3\n", "0.txt:4: found 3 columns ('1 2 3')"),
    ],
)
def test_what_is_no_column_file_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    found = refusal(tmp_path, text)
    assert found.startswith(message) or message in found


def test_a_pipe_a_folder_a_sparse_file_and_a_bomb_are_refused(tmp_path: Path) -> None:
    """Nothing is waited for, and no memory is taken."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "sparse.tsv").open("wb") as file:
        file.truncate(1 << 40)
    zeros = gzip.compress(b"a\tO\n" * (1 << 23))
    (tmp_path / "bomb.tsv.gz").write_bytes(zeros)
    (tmp_path / "half.tsv.gz").write_bytes(gzip.compress(b"a\tO\n" * 9)[:-9])
    expected: Sequence[tuple[str, type[BackattnError], str]] = (
        ("pipe", MissingError, "cannot be read (not a file); name a column file"),
        ("folder", MissingError, "cannot be read (not a file); name a column file"),
        ("none", MissingError, "cannot be read (no such file); name a column file"),
        ("sparse.tsv", MissingError, "of which only 0 were written); name a column file"),
        ("bomb.tsv.gz", CorpusError, "unpacks to more than"),
        ("half.tsv.gz", CorpusError, "not whole, or not packed by gzip"),
    )
    with bounded(mebibytes=300):
        for name, kind, message in expected:
            with pytest.raises(kind) as caught:
                detect([tmp_path / name])
            assert str(caught.value).startswith(f"{tmp_path / name}: ")
            assert message in str(caught.value)
