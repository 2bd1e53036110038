"""What is a token in a column file, and what a comment, a border or another form: nothing goes in silence."""

import gzip
import json
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from backattn.common.errors import CorpusError, MissingError, RecipeError
from backattn.corpus.formats import ColumnRows, parse_column_file, read_corpus
from backattn.corpus.other_forms import other_form
from backattn.recipe import ColumnFormat, CorpusRecipe
from bounds import bounded

HASH = ColumnFormat(comment="#", separator="tab")
IDS = ColumnFormat(token=1, tag=2, comment="#", separator="tab")


def read(folder: Path, text: str, format: ColumnFormat) -> tuple[list[str], int]:
    """The sentences as ``token/tag ...``, and the number of comments."""
    path = folder / "x.tsv"
    path.write_text(text, "utf-8", newline="")
    file = parse_column_file(path, format)
    lines = [" ".join(f"{t}/{g}" for t, g in zip(s.tokens, s.tags, strict=True)) for s in file.sentences]
    return lines, file.comments


def refusal(folder: Path, text: str | bytes, format: ColumnFormat, name: str = "x.tsv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CorpusError) as caught:
        parse_column_file(path, format)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert message.isprintable()
    return message.removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("text", "expected", "comments"),
    [
        # A token line, in the middle and at the head; one field at the head is a comment.
        (
            "so\tO\n#ana\tB-PER\n#ruiz\tI-PER\n\n#\n#\tO\nx\tO\n",
            ["so/O #ana/B-PER #ruiz/E-PER", "#/O x/O"],
            1,
        ),
        # The first line is one too, though no line has shown the columns yet.
        ("#ana\tB-PER\nva\tO\n", ["#ana/S-PER va/O"], 0),
        # Other columns, or no tag: comments.
        ("# a\tb\tO\n# x\ty\nva\tO\n\n#\tper\nno\tO\n", ["va/O", "no/O"], 3),
        # After the last token of a sentence, none is inside of it.
        ("va\tO\n# end\n\n# more\n", ["va/O"], 2),
        # No line is surely a token: those with a tag are.
        ("# a comment\n#a\tB-X\n#b\tI-X\n", ["#a/B-X #b/E-X"], 1),
    ],
)
def test_a_comment_is_what_is_no_token(tmp_path: Path, text: str, expected: list[str], comments: int) -> None:
    assert read(tmp_path, text, HASH) == (expected, comments)


def test_bare_types_tell_no_token_from_a_comment_but_those_of_the_file_do(tmp_path: Path) -> None:
    format = ColumnFormat(scheme="IO", comment="#")
    text = "# newdoc\n#ana PER\nva O\n\n# x\n# PER\nAna PER\n\n# LOC\nno O\n"
    assert read(tmp_path, text, format) == (["#ana/S-PER va/O", "#/B-PER Ana/E-PER", "no/O"], 3)


def test_new_text_without_tags_has_its_hash_tokens(tmp_path: Path) -> None:
    """As `tag` reads it: one column, or another thing where the corpus has its tags."""
    for text, format, expected in (
        ("RT\n#ana\nva\n\n#\nx\n", HASH, ["RT", "#ana", "va", "", "x", ""]),
        ("1\tRT\t_\n2\t#\t_\n\n#\tx\ty\n\n# z\n1\ta\t_\n", IDS, ["1", "2", "", "#", "", "1", ""]),
        ("a\tO\n-DOCSTART-\n\nb\tO\n", structs.replace(HASH, docstart="-DOCSTART-"), ["a", "", "b", ""]),
    ):
        rows = ColumnRows("text", format).read(enumerate(text.split("\n"), 1))
        assert [row.columns[0] if row.columns else "" for row in rows] == expected


def test_endless_comments_are_not_kept() -> None:
    rows = ColumnRows("text", HASH)
    with bounded(mebibytes=64):
        assert not list(rows.read((number, f"#{number:01000}") for number in range(100_000)))
    assert rows.comments == 100_000


def test_a_comment_inside_of_a_sentence_parts_it_where_ids_start_again(tmp_path: Path) -> None:
    text = "# 1\n1\tNew\tB-LOC\n2\tYork\tI-LOC\n# 2\n1\tAna\tB-PER\n# 3\n# 4\n1\tva\tO\n"
    assert read(tmp_path, text, IDS) == (["New/B-LOC York/E-LOC", "Ana/S-PER", "va/O"], 4)


@pytest.mark.parametrize(
    ("text", "format", "line"),
    [
        ("1\tNew\tB-LOC\n# 2\n2\tYork\tI-LOC\n", IDS, 2),
        ("1\tNew\tB-LOC\n# 2\n# 3\n3\tYork\tI-LOC\n", IDS, 2),
        (
            "7\tNew\tB-LOC\n7\tYork\tI-LOC\n# 2\n7\tAna\tO\n",
            IDS,
            3,
        ),  # the number of a sentence, not of a token
        ("1\tNew\tB-LOC\n1\tYork\tI-LOC\n# 2\n1\tAna\tO\n", IDS, 3),
        ("New\tB-LOC\n#\nYork\tI-LOC\n", HASH, 2),
        ("1\tO\n2\tO\n#\n1\tO\n", HASH, 3),  # numbers that are tokens
        ("New\tB-LOC\n#nyc\tB_LOC\nYork\tI-LOC\n", HASH, 2),
    ],
)
def test_else_it_is_refused_with_its_line(tmp_path: Path, text: str, format: ColumnFormat, line: int) -> None:
    message = refusal(tmp_path, text, format)
    assert message.startswith(f"{line}: found a comment in the middle of a sentence, expected it before one")
    assert "put an empty line before it, or mend the line if it is a token" in message


LINES = ["a\tB-X", "b\tI-X", "#\tO", "#c\tI-X", "# x", "#", "", "#\tno"]


def test_no_token_line_is_lost_and_no_sentence_goes_over_a_comment(tmp_path: Path) -> None:
    """Brute force: each line of a file that is read is a token, a comment or blank."""
    for lines in product(LINES, repeat=3):
        tokens = [line for line in lines if line.endswith(("-X", "O"))]
        try:
            found, comments = read(tmp_path, "\n".join(lines), HASH)
        except CorpusError:
            continue
        read_tokens = [pair.partition("/")[0] for sentence in found for pair in sentence.split()]
        assert read_tokens == [line.partition("\t")[0] for line in tokens]
        assert len(tokens) + comments + lines.count("") == 3
        inside = lines[0] in tokens and lines[1] not in (*tokens, "") and lines[2] in tokens
        assert not inside, lines


def test_ranges_and_empty_nodes_of_conllu_are_no_tokens(tmp_path: Path) -> None:
    for line, name in (("2-3\tdel\tO", "2-3, a range of tokens"), ("1.1\tde\tO", "1.1, an empty node")):
        message = refusal(tmp_path, f"1\ta\tO\n{line}\n2\tb\tO\n", IDS)
        assert message.startswith(
            f"2: found the id {name} of CoNLL-U, expected a token; set corpus.format.kind"
        )
    assert refusal(tmp_path, "1-2\tdel\tO\n1\tb\tO\n", IDS).startswith("1: found the id 1-2, a range")
    assert read(tmp_path, "7.30\ta\tO\n3-4\tb\tO\n", IDS) == (["a/O b/O"], 0)  # a time, a result: no ids


def test_documents_are_parted_whatever_parts_their_columns(tmp_path: Path) -> None:
    format = ColumnFormat(separator="tab", docstart="-DOCSTART-")
    text = "-DOCSTART- -X- O\n\nAna\tB-PER\n-DOCSTART-\nva\tO\n -DOCSTART-  O\n"
    assert read(tmp_path, text, format) == (["Ana/S-PER", "va/O"], 0)
    assert parse_column_file(tmp_path / "x.tsv", format).documents == 3


@pytest.mark.parametrize("line", ["-DOCSTART-", "-DOCSTART- -X- O", "-DOCSTART-\tO", "1\t-DOCSTART-\tO"])
@pytest.mark.parametrize("separator", ["tab", "whitespace"])
@pytest.mark.parametrize("before", ["", "a\tO\n\n"])
def test_a_separator_of_documents_that_has_no_name_is_named(
    tmp_path: Path, line: str, separator: str, before: str
) -> None:
    message = refusal(tmp_path, f"{before}{line}\n\na\tO\n", ColumnFormat(separator=separator))  # type: ignore[arg-type]
    assert "found '-DOCSTART-', expected a token, not a separator of documents; set docstart = " in message


def test_a_mark_inside_of_a_file_is_no_part_of_a_token(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffAna O\n", ColumnFormat()) == (["Ana/O"], 0)
    for text in ("Ana O\n\n\ufeffLugo O\n", "\ufeff\ufeffAna O\n\n", "Ana O\n\nLu\ufeffgo O\n"):
        line = 1 if text[0] == "\ufeff" else 3
        message = refusal(tmp_path, text, ColumnFormat())
        assert message.startswith(f"{line}: found a byte order mark (U+FEFF), expected it at the head")


@pytest.mark.parametrize(
    ("text", "format", "message"),
    [
        ("a O\n", ColumnFormat(token=1, tag=-1), "column 1 and column -1 are the same one; mend the"),
        ("a O\n", ColumnFormat(token=-1, tag=1), "column -1 and column 1 are the same one"),
        ("# x\na\tO\n", ColumnFormat(separator="tab", tag=1), "1: found 1 column, expected the token in"
         ' column 0 and the tag in column 1; set comment = "#" in the recipe'),
        ("a O\n\n# x y\nb O\n", ColumnFormat(), "3: found 3 columns, expected 2 as in the lines before; set"
         ' comment = "#"'),
        ("# id = x\na O\nb O\n", ColumnFormat(), "1: found 4 columns, expected 2 as in line 2; set comment"),
        ("# x\na O\n", ColumnFormat(), "1: found tag 'x', expected O or one of B-TYPE, I-TYPE; set comment"),
        ("a U-X\n", ColumnFormat(), "(BILOU has such tags)"),
        ("a S-X\n", ColumnFormat(), "(BIOES, BMES have such tags)"),
        ("a PER\n", ColumnFormat(), "(IO has such tags)"),
        ("a B\n", ColumnFormat(), 'name the type of all entities in the recipe\'s format (type = "PER")'),
        ("a B-X\n", ColumnFormat(type="X"), "found tag 'B-X', expected O or one of B, I without a type"),
        ("a B-X\n", ColumnFormat(scheme="IO"), "found tag 'B-X', expected O or a type without a prefix"),
    ],
)  # fmt: skip
def test_the_remedy_fits_the_cause(tmp_path: Path, text: str, format: ColumnFormat, message: str) -> None:
    assert message in refusal(tmp_path, text, format)


@pytest.mark.parametrize(
    ("scheme", "kind", "tags", "expected"),
    [
        ("BILOU", "", "B-A I-A L-A U-A O", "B-A I-A E-A S-A O"),
        ("BMEWO", "", "B-A M-A E-A W-A O", "B-A I-A E-A S-A O"),
        ("BIO", "", "B-A I-A B-A O", "B-A E-A S-A O"),
        ("IO", "", "A A Side O A", "B-A E-A S-Side O S-A"),
        ("IOB2", "PER", "B I B O", "B-PER E-PER S-PER O"),
        ("IOB1", "PER", "I I B O I", "B-PER E-PER S-PER O S-PER"),
        ("BILOU", "PER", "B L U O", "B-PER E-PER S-PER O"),
    ],
)
def test_every_scheme_from_a_file(tmp_path: Path, scheme: str, kind: str, tags: str, expected: str) -> None:
    text = "".join(f"x {tag}\n" for tag in tags.split())
    format = ColumnFormat(scheme=scheme, type=kind)  # type: ignore[arg-type]
    assert read(tmp_path, text, format)[0] == [" ".join(f"x/{tag}" for tag in expected.split())]


def test_a_type_beside_types_is_the_recipes_fault(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a O\n")
    for format, expected in (
        (
            ColumnFormat(scheme="IO", type="PER"),
            "type = 'PER' with scheme IO; expected a scheme with prefixes",
        ),
        (ColumnFormat(type="A B"), "type = 'A B' with scheme IOB2; expected a type without blanks"),
    ):
        with pytest.raises(RecipeError) as caught:
            parse_column_file(tmp_path / "x", format)
        assert expected in str(caught.value)
    assert parse_column_file(tmp_path / "x", ColumnFormat(scheme="BIO", orphans="begin")).orphans == 0


JSONL = 'JSON lines; set corpus.format.kind = "jsonl" in the recipe, or run `backattn convert FILE OUT`'
JSON = "JSON; run `backattn convert FILE OUT`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"tokens": ["Eva", "O"], "tags": ["B-PER", "O"]}\n' * 2, JSONL),
        ('\n{"text": "Eva", "n": [[0, 3, "B-PER"]]}', JSONL),
        (json.dumps([{"text": "Eva"}, {"text": "x"}]), JSON),
        (json.dumps([{"text": "Eva"}, {"text": "x"}], indent=2), JSON),
        (json.dumps({"text": "Eva"}, indent=1), JSON),
        ('[{"a": 1},\n{"a": 2}]', JSON),
        ("T1\tPER 0 3\tEva\nT2\tLOC 8 12;15 17\tLugo x\n", "BRAT annotations; run `backattn convert FOLDER"),
    ],
)
@pytest.mark.parametrize("scheme", ["IOB2", "IO"])
def test_other_forms_are_refused_by_name(tmp_path: Path, text: str, expected: str, scheme: str) -> None:
    message = refusal(tmp_path, text, ColumnFormat(scheme=scheme))  # type: ignore[arg-type]
    assert message.startswith(f"1: expected a column file; this looks like {expected}")


def test_a_folder_of_brat_is_named_and_so_is_a_text_of_it(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"cannot be read \(not a file\)"):
        parse_column_file(tmp_path, ColumnFormat())
    (tmp_path / "x.ann").write_text("T1\tPER 0 3\tEva\n")
    assert "text of BRAT" in refusal(tmp_path, "Eva is here.\n", ColumnFormat(), "x.txt")
    recipe = CorpusRecipe(train=str(tmp_path), dev="a", test="b", source="c")
    with pytest.raises(CorpusError, match="this looks like text of BRAT"):
        parse_column_file(tmp_path, ColumnFormat())
    recipe = structs.replace(recipe, dev=str(tmp_path), test=str(tmp_path))
    with pytest.raises(CorpusError, match="run `backattn convert FOLDER OUT`"):
        read_corpus(recipe)
    assert parse_column_file(write_ok(tmp_path / "x.txt"), ColumnFormat()).sentences  # beside it, but columns


def write_ok(path: Path) -> Path:
    path.write_text("Eva B-PER\n")
    return path


def test_packed_files_are_named(tmp_path: Path) -> None:
    for data, found in (
        (gzip.compress(b"a O\n"), "a file packed by gzip; end its name in .gz, or unpack it"),
        (b"PK\x03\x04\x00\xff", "a zip archive; unpack it"),
        (b"PAR1\xff\x00PAR1", "a Parquet file; run `backattn convert FILE OUT`"),
    ):
        assert f"expected a column file, found {found}" in refusal(tmp_path, data, ColumnFormat())


BRACKETS = st.sampled_from(["{", "[", "[{", '{"', '"', ":", "}", "]", '{"a":1}', "T1", "1", "a", ","])


@given(
    st.lists(
        st.tuples(BRACKETS, st.sampled_from(["", *"{["]), st.sampled_from(["O", "B-}", "S-X"])), min_size=1
    )
)
def test_no_column_file_is_another_form(rows: list[tuple[str, str, str]]) -> None:
    for gap in " \t":
        assert not other_form("".join(gap.join(filter(None, row)) + "\n" for row in rows))


@given(st.lists(st.sampled_from(["Ana B-PER", "va O", "", "é O"]), max_size=9))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_packed_file_is_read_as_it_is_unpacked(tmp_path: Path, lines: list[str]) -> None:
    data = "\n".join(["x O", *lines]).encode()
    (tmp_path / "x.tsv").write_bytes(data)
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(data[:9]) + gzip.compress(data[9:]))
    plain, packed = (parse_column_file(tmp_path / name, ColumnFormat()) for name in ("x.tsv", "x.tsv.gz"))
    assert packed.sentences == plain.sentences


def test_a_damaged_or_swollen_packed_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"a O\n\n" * 1000)
    for data in (whole[:-3], b"a O\n", whole[:20] + b"\xff" * 20, whole + b"x"):
        assert refusal(tmp_path, data, ColumnFormat(), "x.gz").startswith(" not whole, or not packed by gzip")
    bomb = gzip.compress(b"a O\n\n" * (1 << 18)) * 500
    with bounded():
        message = refusal(tmp_path, bomb, ColumnFormat(), "x.gz")
    assert "unpacks to more than 16,777,216 bytes from its first" in message
    assert "unpack it by hand (gunzip) and name that file" in message


def test_a_packed_file_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at the decompressor itself."""
    from backattn.common.text_lines import text_lines

    unpacked: list[int] = []
    real = gzip.GzipFile.read

    def read(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        block = real(self, size)
        unpacked.append(len(block))
        return block

    def never(self: gzip.GzipFile, *_: object) -> int:
        raise AssertionError("rewound")

    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"eins\nzwei\n" * 1000))
    monkeypatch.setattr(gzip.GzipFile, "read", read)
    monkeypatch.setattr(gzip.GzipFile, "seek", never)
    assert len(list(text_lines(path, "put it there"))) == 2000
    assert sum(unpacked) == 10_000
