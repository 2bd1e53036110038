"""`backattn convert`: each kind of file to sentences, back equal; all else is refused by file and line.

Files of spaCy, pyarrow and datasets are made by these libraries: tests/conversion/test_libraries.py.
"""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.cli import main
from backattn.common.errors import BackattnError
from backattn.conversion.convert import Conversion, convert_file
from backattn.conversion.source import Options
from backattn.corpus import Sentence
from backattn.corpus.formats import parse_file
from backattn.corpus.spans import Span, from_spans
from backattn.recipe import ColumnFormat, JsonlFormat
from examples import examples

SPANISH = Options(language="es")
LONGEST = Options(language="es", overlap="longest")
MISC = "\t_" * 7
TEXT = "Ana Ruiz vive en Lugo."
GOLD = [Sentence(("Ana", "Ruiz", "vive", "en", "Lugo", "."), ("B-PER", "E-PER", "O", "O", "S-LOC", "O"))]
DOCCANO = {"id": 7, "text": TEXT, "label": [[0, 8, "PER"], [17, 21, "LOC"]]}
DOCCANO_ENTITIES = {
    "text": TEXT, "relations": [],
    "entities": [{"id": 1, "label": "PER", "start_offset": 0, "end_offset": 8},
                 {"id": 2, "label": "LOC", "start_offset": 17, "end_offset": 21}],
}  # fmt: skip
PRODIGY = {
    "text": TEXT, "_task_hash": 1, "answer": "accept",
    "spans": [{"start": 0, "end": 8, "label": "PER", "token_start": 0, "token_end": 1},
              {"start": 17, "end": 21, "label": "LOC"}],
}  # fmt: skip
TOKENS = [{"text": "Ana", "start": 0, "end": 3, "id": 0}, {"text": "Ruiz", "start": 4, "end": 8, "id": 1},
          {"text": "vive en", "start": 9, "end": 16, "id": 2},
          {"text": "Lugo.", "start": 17, "end": 22}]  # fmt: skip


def studio(text: str, *spans: tuple[int, int, str, str], **more: Any) -> list[dict[str, Any]]:
    results = [
        {"type": "labels", "from_name": "label", "to_name": "text",
         "value": {"start": start, "end": end, "text": shown, "labels": [kind]}}
        for start, end, shown, kind in spans
    ]  # fmt: skip
    return [{"id": 1, "data": {"text": text}, "annotations": [{"result": results, **more}]}]


STUDIO = studio(TEXT, (0, 8, "Ana Ruiz", "PER"), (17, 21, "Lugo", "LOC"))
BRAT = "T1\tPER 0 8\tAna Ruiz\nT2\tLOC 17 21\tLugo\nR1\tIn Arg1:T1 Arg2:T2\n#1\tNote T1\tx\n"


def convert(path: Path, options: Options = SPANISH, **more: Any) -> tuple[list[Sentence], Conversion]:
    """The sentences of a file, which both kinds of output hold alike."""
    columns, lines = path.parent / "out.tsv", path.parent / "out.jsonl"
    kind = more.pop("kind", None)
    done = convert_file(path, columns, kind=kind, options=options, replace=True)
    assert convert_file(path, lines, kind=kind, options=options, replace=True) == done
    read = parse_file(columns, ColumnFormat(separator="tab")).sentences
    assert parse_file(lines, JsonlFormat()).sentences == read
    return list(read), done


def write(folder: Path, name: str, content: Any) -> Path:
    """A file of JSON (a list), JSON lines (a tuple), or text."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, tuple):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8", newline="")
    return path


@pytest.mark.parametrize(("name", "content", "kind"), [
    ("a.jsonl", (DOCCANO,), "doccano"),
    ("a.jsonl", (DOCCANO_ENTITIES,), "doccano"),
    ("a.jsonl", (PRODIGY,), "prodigy"),
    ("a.json", STUDIO, "label-studio"),
    ("a.json", [{"text": TEXT, "label": [{"start": 0, "end": 8, "labels": ["PER"]},
                                         {"start": 17, "end": 21, "labels": ["LOC"]}]}], "label-studio"),
    ("a.jsonl", ({"tokens": GOLD[0].tokens, "ner_tags": GOLD[0].tags},), "jsonl"),
    ("a.txt", "Ana I-PER\nRuiz I-PER\nvive O\nen O\nLugo I-LOC\n. O\n", "columns"),
    ("a.conllu", "".join(f"{n}\t{w}{MISC}\t{m}\n" for n, w, m in zip(
        range(1, 7), GOLD[0].tokens, ["X=Y|NER=B-PER", "NER=I-PER", "_", "_", "NER=B-LOC", "_"],
        strict=True)), "conllu"),
    ("a.conllu", "1-2\tx\t_\tO\n1\tAna\t_\tB-PER\n2\tRuiz\t_\tI-PER\n3\tvive\t_\tO\n4\ten\t_\tO\n"
     "5\tLugo\t_\tB-LOC\n6\t.\t_\tO\n", "conllu"),
    ("a.tsv", "1\tAna\tB-PER\n2\tRuiz\tL-PER\n3\tvive\tO\n4\ten\tO\n5\tLugo\tU-LOC\n6\t.\tO\n", "conllu"),
])  # fmt: skip
def test_each_kind_is_told_and_read(tmp_path: Path, name: str, content: Any, kind: str) -> None:
    read, done = convert(write(tmp_path, name, content))
    assert read == GOLD
    assert (done.kind, done.guessed, done.sentences, done.tokens, done.entities) == (kind, True, 1, 6, 2)


def brat(folder: Path, annotations: str = BRAT, text: str = TEXT) -> Path:
    write(folder, "brat/one.txt", text)
    return write(folder, "brat/one.ann", annotations).parent


def test_brat_folders(tmp_path: Path) -> None:
    folder = brat(tmp_path)
    write(tmp_path, "brat/two.txt", "Vigo\r\nno")
    write(tmp_path, "brat/two.ann", "T1\tLOC 0 4\tVigo\n")
    read, done = convert(folder)
    assert read == [*GOLD, Sentence(("Vigo",), ("S-LOC",)), Sentence(("no",), ("O",))]
    assert done.kind == "brat"
    assert convert(folder / "one.ann")[0] == GOLD


def test_an_entity_over_a_line_end_is_one(tmp_path: Path) -> None:
    folder = brat(tmp_path, "T1\tPER 0 3;4 8\tAna Ruiz\n", "Ana\nRuiz vive")
    assert convert(folder)[0] == [Sentence(("Ana", "Ruiz", "vive"), ("B-PER", "E-PER", "O"))]


def test_prodigy_keeps_its_own_tokens_and_what_was_accepted(tmp_path: Path) -> None:
    rows = ({**PRODIGY, "tokens": TOKENS, "spans": [{"start": 9, "end": 22, "label": "X"}]},
            {**PRODIGY, "answer": "reject"})  # fmt: skip
    read, done = convert(write(tmp_path, "a.jsonl", rows), Options())
    assert read == [Sentence(("Ana", "Ruiz", "vive en", "Lugo."), ("O", "O", "B-X", "E-X"))]
    assert done.rejected == 1


def test_label_studio_counts_as_browsers_do(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", studio("👍 Lugo", (3, 7, "Lugo", "LOC")))
    assert convert(path)[0] == [Sentence(("👍", "Lugo"), ("O", "S-LOC"))]


@pytest.mark.parametrize(("label", "kept", "dropped"), [
    ([[0, 3, "A"], [0, 8, "B"]], ("B-B", "E-B"), 1),
    ([[0, 8, "B"], [4, 8, "A"], [0, 3, "A"]], ("B-B", "E-B"), 2),
    ([[0, 3, "A"], [0, 3, "B"]], ("S-A", "O"), 1),
])  # fmt: skip
def test_overlaps_are_settled_and_counted(tmp_path: Path, label: Any, kept: Any, dropped: int) -> None:
    path = write(tmp_path, "a.jsonl", ({**DOCCANO, "label": label},))
    with pytest.raises(BackattnError, match=r"a\.jsonl:1: found the span .* overlaps .*--overlap longest"):
        convert(path)
    read, done = convert(path, LONGEST)
    assert (read[0].tags[:2], done.overlapping) == (kept, dropped)


def test_a_discontinuous_entity_keeps_its_longest_part(tmp_path: Path) -> None:
    folder = brat(tmp_path, "T1\tPER 0 3;9 13\tAna vive\n")
    with pytest.raises(BackattnError, match=r"one\.ann:1: found the discontinuous entity 0 3;9 13 \(PER\)"):
        convert(folder)
    read, done = convert(folder, LONGEST)
    assert (read[0].tags[2], read[0].tags[0], done.overlapping) == ("S-PER", "O", 1)


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    letters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff")
    token = st.text(letters, min_size=1, max_size=3).filter(lambda text: text.strip(" "))
    tokens = draw(st.lists(token, min_size=1, max_size=6))
    cuts = sorted(draw(st.sets(st.integers(0, len(tokens)), max_size=4)))
    spans = [Span(a, b, draw(st.sampled_from("AB"))) for a, b in pairwise(cuts)]
    return Sentence(tuple(tokens), from_spans(spans[::2], len(tokens)))


@given(found=st.lists(sentences(), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(60))
def test_round_trip(tmp_path: Path, found: list[Sentence]) -> None:
    """JSON lines to columns and JSON lines: the same sentences."""
    rows = tuple({"tokens": s.tokens, "ner_tags": s.tags} for s in found)
    assert convert(write(tmp_path, "a.jsonl", rows))[0] == found


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.jsonl", ({**DOCCANO, "label": [[0, 2, "PER"]]},), r"a\.jsonl:1: found the span 0-2 'An' \(PER\)"),
    ("a.jsonl", ({**DOCCANO, "label": 3},), r"a\.jsonl:1: found 3 as spans"),
    ("a.jsonl", '{"text": "a", "label": [[NaN, 1, "X"]]}', r"a\.jsonl:1: found the number NaN"),
    ("a.jsonl", '{"text": "a", "label": [[-1, 1, "X"]]}', r"a\.jsonl:1: found the span -1-1"),
    ("a.jsonl", '{"text": "a", "label": [], "label": []}', r"a\.jsonl:1: found the key 'label' twice"),
    ("a.jsonl", '{"text": ' + "[" * 100_000, r"a\.jsonl:1: found nested too deep"),
    ("a.jsonl", '{"text": "' + "x" * (1 << 24), r"a\.jsonl:1: more than 16 MiB on a line"),
    ("a.jsonl", ({"x": 1},), r"a\.jsonl:1: found the fields x, which are of no known form"),
    ("a.jsonl", ({**PRODIGY, "tokens": [{"start": 3, "end": 2}]},), r"a\.jsonl:1: found the token \{"),
    ("a.jsonl", ({**PRODIGY, "tokens": [{"start": 0, "end": 3, "text": "x"}]},), r"found 'Ana' at 0-3"),
    ("a.json", "[" * 100_000, r"a\.json: found nested too deep, expected JSON"),
    ("a.json", [3], r"a\.json: task 1: found 3, expected a table"),
    ("a.json", [{"annotations": [{}, {}], "data": {"text": ""}}], "task 1: found 2 annotations"),
    ("a.json", [{"annotations": [{}], "data": {"a": "x", "b": "y"}}], r"task 1: found data = \{'a'"),
    ("a.json", studio(TEXT, (0, 8, "Luis", "PER")), "task 1: found 'Ana Ruiz' at 0-8, expected 'Luis'"),
    ("a.json", studio(TEXT, (-3, 8, "Luis", "PER")), "task 1: found"),
    ("a.json", [{"text": TEXT, "title": "El Lugo",
                 "label": [{"start": 3, "end": 7, "text": "Lugo", "labels": ["LOC"]}]}],
     "task 1: found 'Lugo' at 3-7 in 'title', expected spans of 'text' alone; JSON-MIN does not say"),
    ("a.json", [{"text": TEXT, "title": "Ana Ruiz",
                 "label": [{"start": 0, "end": 8, "text": "Ana Ruiz", "labels": ["PER"]}]}],
     "task 1: found 'Ana Ruiz' at 0-8 in 'title', expected spans of 'text' alone"),
    ("a.tsv", "a X-1\n", r"a\.tsv:1: found tag 'X-1'"),
    ("a.jsonl", ({"tokens": ["a"], "ner_tags": [1]},), r"a\.jsonl:1: found the tag 1, .*--names"),
    ("a.jsonl", ({"tokens": ["a\n"], "ner_tags": ["O"]},), r"a\.jsonl:1: found the token 'a\\n'"),
    ("a.jsonl", ({"tokens": ["a"], "ner_tags": ["Q"]},), r"a\.jsonl:1: found tag 'Q'"),
    ("a.jsonl", ({**PRODIGY, "answer": "ignore"},), r"found no sentence \(as prodigy\)"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(BackattnError, match=message):
        convert(write(tmp_path, name, content))
    assert not (tmp_path / "out.tsv").exists()


@pytest.mark.parametrize(("line", "message"), [
    ("T1\tPER 0 80\tAna", r"one\.ann:1: found the span 0-80 \(PER\); expected offsets from 0 to 22"),
    ("T1\tPER 5 5\t", r"one\.ann:1: found the span 5-5"),
    ("T1\tPER 0 8\tLuis", r"one\.ann:1: found 'Ana Ruiz' at its offsets, expected 'Luis'"),
    ("T1 PER 0 8", r"one\.ann:1: found 'T1 PER 0 8', expected an entity like"),
    ("T1\tPER -1 8\tAna", r"one\.ann:1: found 'T1"),
    ("T1\tPER 0 8 9\tAna", r"one\.ann:1: found 'T1"),
    ("Q", r"one\.ann:1: found 'Q'"),
    ("T1\tPER 0 " + "9" * 5000 + "\tA", r"one\.ann:1: found 'T1"),
    ("T1\tPER 0 6\tAna Ru", r"one\.txt: found the span 0-6 'Ana Ru' \(PER\) cuts the token 'Ruiz'"),
])  # fmt: skip
def test_annotations_that_do_not_fit_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(BackattnError, match=message):
        convert(brat(tmp_path, line + "\n"))


@pytest.mark.parametrize("attack", ["link", "fifo", "missing", "folder", "empty"])
def test_a_brat_folder_holds_files_alone(tmp_path: Path, attack: str) -> None:
    folder = brat(tmp_path)
    text = folder / "one.txt"
    text.unlink()
    if attack == "link":
        write(tmp_path, "secret.txt", TEXT)
        text.symlink_to(tmp_path / "secret.txt")
    elif attack == "fifo":
        os.mkfifo(text)
    elif attack == "folder":
        text.mkdir()
    elif attack == "empty":
        (folder / "one.ann").unlink()
    with pytest.raises(
        BackattnError, match=r"one\.txt: expected a file there \(not a link\)|without \.ann files"
    ):
        convert(folder)


def test_pipes_devices_and_nothing_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path / "nothing"):
        with pytest.raises(BackattnError, match="cannot be read"):
            convert_file(path, tmp_path / "out.tsv", kind=None, options=SPANISH)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["convert", *arguments])
    return done.exit_code, done.output


def test_the_command_says_what_it_has_done(tmp_path: Path) -> None:
    file, out = str(write(tmp_path, "a.jsonl", (DOCCANO,))), str(tmp_path / "out.tsv")
    status, said = run(file, out)
    assert (status, "running text, which is split into tokens by the rules of its" in said) == (2, True)
    status, said = run(file, out, "--source", "es")
    assert status == 0
    assert "read as doccano (detected from its content; --from sets another)" in said
    assert 'wrote 1 sentences, 6 tokens, 2 entities; read it with corpus.format kind = "columns"' in said
    status, said = run(file, out, "--source", "es")
    assert (status, "is there already; say --replace to write over it" in said) == (2, True)
    assert run(file, out, "--source", "es", "--replace")[0] == 0
    status, said = run(file, file, "--source", "es", "--replace")
    assert (status, "name another file" in said) == (2, True)
    assert json.loads(Path(file).read_text())["id"] == 7
    status, said = run(file, str(tmp_path / "a.conllu"), "--source", "es")
    assert (status, "expected a name that ends in .tsv" in said) == (2, True)
    status, said = run(file, out, "--source", "../x", "--replace")
    assert (status, "expected a language code" in said) == (2, True)
    status, said = run(file, out, "--source", "es", "--replace", "--from", "brat")
    assert (status, len(said.splitlines())) == (2, 1)
    numbers = str(write(tmp_path, "n.jsonl", ({"tokens": ["Ana"], "ner_tags": [1]},)))
    assert run(numbers, out, "--replace", "--names", "O,B-PER")[0] == 0
    assert Path(out).read_text() == "Ana\tB-PER\n\n"
    assert json.loads(run(numbers, out, "--replace", "--names", "O,B-PER", "--json")[1])["entities"] == 1


def test_a_link_in_the_place_of_out_is_replaced_not_followed(tmp_path: Path) -> None:
    file, kept = write(tmp_path, "a.jsonl", (DOCCANO,)), write(tmp_path, "kept", "mine")
    (tmp_path / "out.tsv").symlink_to(kept)
    convert_file(file, tmp_path / "out.tsv", kind=None, options=SPANISH, replace=True)
    assert kept.read_text() == "mine"


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("spacy", "pyarrow"):
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    for kind, package in (("docbin", "spacy"), ("parquet", "pyarrow"), ("datasets", "pyarrow")):
        with pytest.raises(BackattnError, match=f"the package {package}, which is not installed") as error:
            convert_file(tmp_path, tmp_path / "out.tsv", kind=kind, options=SPANISH)  # type: ignore[arg-type]
        assert "pip install 'backattn[convert]'" in str(error.value)


def test_a_file_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    folder = brat(tmp_path)
    text = folder / "one.txt"
    for file in (folder, folder / "one.ann", text):
        status, said = run(str(file), str(text), "--source", "es", "--replace")
        assert (status, "is part of the input" in said) == (2, True)
    assert text.read_text() == TEXT
    assert run(str(folder / "one.ann"), str(folder / "two.tsv"), "--source", "es")[0] == 0


def test_a_name_of_a_tag_stands_for_one_number(tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", ({"tokens": ["Ana"], "ner_tags": [1]},))
    status, said = run(str(file), str(tmp_path / "out.tsv"), "--names", "O,B-PER,B-PER")
    assert (status, "--names: found B-PER more than once, expected each tag once" in said) == (2, True)


@pytest.mark.parametrize(("kind", "message"), [
    ("O", "task 1: found an entity of the type O"),
    ("X" * 1001, "task 1: found a type of 1,001 characters"),
])  # fmt: skip
def test_types_that_are_no_names_are_refused(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(BackattnError, match=message):
        convert(write(tmp_path, "a.json", studio(TEXT, (0, 8, "Ana Ruiz", kind))))
    row = {**PRODIGY, "tokens": TOKENS, "spans": [{"start": 0, "end": 8, "label": kind}]}
    with pytest.raises(BackattnError, match=message.replace("task 1", r"a\.jsonl:1")):
        convert(write(tmp_path, "a.jsonl", (row,)))


@pytest.mark.parametrize("kind", ["-PER", "--", "PER-", "X" * 1000])
def test_types_with_hyphens_come_back(tmp_path: Path, kind: str) -> None:
    read, _ = convert(write(tmp_path, "a.jsonl", ({**DOCCANO, "label": [[0, 8, kind]]},)))
    assert read[0].tags[:2] == (f"B-{kind}", f"E-{kind}")


@pytest.mark.parametrize(("name", "content"), [
    ("a.json", studio("Ana \0 Ruiz", (0, 3, "Ana", "PER"))),
    ("a.jsonl", ({"text": "Ana \0 Ruiz", "label": []},)),
    ("a.jsonl", ({"text": "Ana \0 Ruiz", "spans": []},)),
    ("a.jsonl", ({"text": "Ana \0 Ruiz", "spans": [],
                  "tokens": [{"start": 0, "end": 3}, {"start": 6, "end": 10}]},)),
])  # fmt: skip
def test_a_nul_character_is_refused(tmp_path: Path, name: str, content: Any) -> None:
    with pytest.raises(BackattnError, match="1: found a NUL character at 4, expected text; take it out"):
        convert(write(tmp_path, name, content))


@pytest.mark.parametrize("tokens", [[], TOKENS[1:], TOKENS[:-1], [TOKENS[0], *TOKENS[2:]]])
def test_tokens_of_prodigy_cover_the_text(tmp_path: Path, tokens: list[Any]) -> None:
    path = write(tmp_path, "a.jsonl", ({**PRODIGY, "spans": [], "tokens": tokens},))
    with pytest.raises(BackattnError, match=r"a\.jsonl:1: found .* in no token, expected tokens of all the"):
        convert(path)


def test_spans_of_doccano_stand_in_one_field(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", ({**DOCCANO_ENTITIES, "label": [[0, 3, "PER"]]},))
    with pytest.raises(
        BackattnError, match=r"a\.jsonl:1: found spans in entities and in label, expected one"
    ):
        convert(path)
    assert convert(write(tmp_path, "a.jsonl", ({**DOCCANO, "entities": []},)))[0] == GOLD


@pytest.mark.parametrize(("name", "content"), [
    ("a.json", [{"text": TEXT, "label": [{"start": False, "end": 3, "labels": ["PER"]}]}]),
    ("a.jsonl", ({**DOCCANO, "label": [[False, 3, "PER"]]},)),
    ("a.jsonl", ({"text": "A", "spans": [], "tokens": [{"start": False, "end": True}]},)),
])  # fmt: skip
def test_offsets_are_numbers(tmp_path: Path, name: str, content: Any) -> None:
    with pytest.raises(BackattnError, match=r"1: found .*False.*whole numbers"):
        convert(write(tmp_path, name, content))


def test_the_control_of_label_studio_may_have_any_name(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 8, "text": "Ana Ruiz", "labels": ["PER"]}]
    spans.append({"start": 17, "end": 21, "text": "Lugo", "labels": ["LOC"]})
    task = {"id": 1, "text": TEXT, "ner": spans}
    assert convert(write(tmp_path, "a.json", [task]))[0] == GOLD
    with pytest.raises(BackattnError, match="task 1: found spans in ner, other, expected one such field"):
        convert(write(tmp_path, "a.json", [{**task, "other": spans}]))


def test_results_of_label_studio_that_are_no_labels(tmp_path: Path) -> None:
    task = studio(TEXT, (0, 8, "Ana Ruiz", "PER"), (17, 21, "Lugo", "LOC"))
    results = task[0]["annotations"][0]["result"]
    results += [{"type": "choices", "value": {"choices": ["x"]}}, {"type": "relation", "from_id": "a"}]
    read, done = convert(write(tmp_path, "a.json", task))
    assert (read, done.form) == (GOLD, "without 2 results that are no spans (choices, relation)")
    results.append({"type": "hypertextlabels", "value": {"start": "/p", "end": "/p", "hypertextlabels": []}})
    with pytest.raises(BackattnError, match="task 1: found a span of the type 'hypertextlabels', expected"):
        convert(write(tmp_path, "a.json", task))


def test_spans_of_another_text_of_label_studio_are_refused(tmp_path: Path) -> None:
    task = studio(TEXT, (0, 8, "Ana Ruiz", "PER"), (17, 21, "Lugo", "LOC"))
    task[0]["data"]["title"] = "Ana Ruiz"
    assert convert(write(tmp_path, "a.json", task))[0] == GOLD
    result = task[0]["annotations"][0]["result"][0]
    result["to_name"] = "title"
    with pytest.raises(BackattnError, match="task 1: found a span of 'title' beside the text 'text'"):
        convert(write(tmp_path, "a.json", task))
    result["to_name"] = "a tag"
    assert convert(write(tmp_path, "a.json", task))[0] == GOLD
    del result["value"]["text"]
    with pytest.raises(BackattnError, match="task 1: found several texts, and a span that does not say"):
        convert(write(tmp_path, "a.json", task))
