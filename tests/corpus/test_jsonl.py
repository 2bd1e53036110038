"""JSON lines as a corpus: tokens with tags or numbers, text with spans; all else is refused by line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backattn.common.errors import CorpusError, RecipeError
from backattn.corpus import Sentence
from backattn.corpus.jsonl import parse_jsonl
from backattn.recipe import JsonlFormat, load_recipe
from backattn.recipe.loading import from_json

TEXT = JsonlFormat(text="text", language="es")
NAMES = ("O", "B-PER", "I-PER", "B-LOC")
NUMBERS = JsonlFormat(names=NAMES)
ROW = {"tokens": ["Ana", "Ruiz", "vive"], "ner_tags": ["B-PER", "I-PER", "O"]}


def parse(folder: Path, rows: str | list[Any], format: JsonlFormat, name: str = "f.jsonl") -> list[Sentence]:
    text = rows if isinstance(rows, str) else "".join(f"{json.dumps(row)}\n" for row in rows)
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return list(parse_jsonl(path, format).sentences)


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz"])
def test_tokens_with_tags(tmp_path: Path, name: str) -> None:
    (sentence, other) = parse(tmp_path, [ROW, {**ROW, "id": 2}], JsonlFormat(), name)
    assert sentence == other == Sentence(("Ana", "Ruiz", "vive"), ("B-PER", "E-PER", "O"))


def test_tags_by_number(tmp_path: Path) -> None:
    row = {"words": ["Ana", "Lugo"], "labels": [1, 3]}
    format = JsonlFormat(tokens="words", tags="labels", names=NAMES)
    assert parse(tmp_path, [row], format)[0].tags == ("S-PER", "S-LOC")


def test_text_with_spans(tmp_path: Path) -> None:
    text = "Ana Ruiz vive en Lugo. Luis, en Vigo."
    tables = [{"start": 0, "end": 8, "label": "PER", "id": 3}, {"start": 17, "end": 21, "label": "LOC"}]
    lists = [[0, 8, "PER"], [17, 21, "LOC"]]
    read = [parse(tmp_path, [{"text": text, "spans": spans}], TEXT) for spans in (tables, lists)]
    assert read[0] == read[1]
    assert [" ".join(map("/".join, zip(s.tokens, s.tags, strict=True))) for s in read[0]] == [
        "Ana/B-PER Ruiz/E-PER vive/O en/O Lugo/S-LOC ./O", "Luis/O ,/O en/O Vigo/O ./O",
    ]  # fmt: skip


def test_chinese_text_is_split_into_characters(tmp_path: Path) -> None:
    format = JsonlFormat(text="text", spans="label", language="zh")
    (sentence,) = parse(tmp_path, [{"text": "我在北京", "label": [[2, 4, "LOC"]]}], format)
    assert sentence == Sentence(("我", "在", "北", "京"), ("O", "O", "B-LOC", "E-LOC"))


def test_no_sentence_ends_inside_an_entity(tmp_path: Path) -> None:
    text = "Vio Yo. Robot en Lugo. Bien."
    read = parse(tmp_path, [{"text": text, "spans": [[4, 13, "MISC"]]}], TEXT)
    assert [s.tokens[-1] for s in read] == [".", "."]
    assert read[0].tags[1:4] == ("B-MISC", "I-MISC", "E-MISC")


@given(
    rows=st.lists(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
                st.sampled_from(["O", "B-A", "B-B-"]),
            ),
            min_size=1, max_size=5,
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tokens_come_back_or_are_refused(tmp_path: Path, rows: list[list[tuple[str, str]]]) -> None:
    tables = [{"tokens": [t for t, _ in row], "ner_tags": [t for _, t in row]} for row in rows]
    tokens = [token for row in rows for token, _ in row]
    fit = all(token.strip(" \t") and not set("\n\r\t\0\ufeff") & set(token) for token in tokens)
    if not fit:
        with pytest.raises(CorpusError, match=r"f\.jsonl:\d+: found"):
            parse(tmp_path, tables, JsonlFormat())
        return
    read = parse(tmp_path, tables, JsonlFormat())
    assert [list(s.tokens) for s in read] == [row["tokens"] for row in tables]
    assert [[tag.replace("S-", "B-", 1) for tag in s.tags] for s in read] == [r["ner_tags"] for r in tables]


def spans(*found: Any) -> str:
    return json.dumps({"text": "Ana Ruiz vive", "spans": list(found)})


@pytest.mark.parametrize(("line", "format", "message"), [
    ("[" * 100_000, JsonlFormat(), ":1: found nested too deep, expected one JSON table"),
    ('{"a":' * 100_000, JsonlFormat(), ":1: found nested too deep"),
    ("{", JsonlFormat(), ":1: found Expecting property name"),
    ("[1]", JsonlFormat(), r":1: found \[1\], expected a JSON table on each line"),
    ('{"tokens": [], "tokens": []}', JsonlFormat(), ":1: found the key 'tokens' twice"),
    ('{"tokens": NaN}', JsonlFormat(), ":1: found the number NaN"),
    ('{"tokens": 1e999}', JsonlFormat(), ":1: found the number '1e999', which is too large"),
    (f'{{"tokens": {"9" * 5000}}}', JsonlFormat(), ":1: found Exceeds the limit"),
    ('{"words": []}', JsonlFormat(), ":1: found the fields words, expected 'tokens'"),
    ('{"tokens": "a", "ner_tags": []}', JsonlFormat(), ":1: found tokens = 'a', expected a list"),
    ('{"tokens": [], "ner_tags": []}', JsonlFormat(), ":1: found 0 tokens and 0 tags"),
    ('{"tokens": ["a"], "ner_tags": []}', JsonlFormat(), ":1: found 1 tokens and 0 tags"),
    ('{"tokens": [1], "ner_tags": ["O"]}', JsonlFormat(), ":1: found the token 1, expected text"),
    ('{"tokens": ["a\\nb"], "ner_tags": ["O"]}', JsonlFormat(), ":1: found a line feed in the token"),
    ('{"tokens": ["\\ud800"], "ner_tags": ["O"]}', JsonlFormat(), ":1: found half of a surrogate pair"),
    ('{"tokens": ["-DOCSTART-"], "ner_tags": ["O"]}', JsonlFormat(), ":1: found a separator of documents"),
    ('{"tokens": [" "], "ner_tags": ["O"]}', JsonlFormat(), ":1: found an empty token"),
    ('{"tokens": ["a"], "ner_tags": ["X"]}', JsonlFormat(), ":1: found tag 'X', expected O or one of"),
    ('{"tokens": ["a"], "ner_tags": [0]}', JsonlFormat(), r":1: found the tag 0, expected text.*names = \["),
    ('{"tokens": ["a"], "ner_tags": [4]}', NUMBERS, ":1: found the tag 4, expected a number from 0 to 3"),
    ('{"tokens": ["a"], "ner_tags": [-1]}', NUMBERS, ":1: found the tag -1, expected a number from 0 to 3"),
    ('{"tokens": ["a"], "ner_tags": [true]}', NUMBERS, ":1: found the tag True, expected a number"),
    ('{"tokens": ["a"], "ner_tags": ["O"]}', NUMBERS, ":1: found the tag 'O', expected a number"),
    ('{"text": 3, "spans": []}', TEXT, ":1: found text = 3, expected text"),
    ('{"text": "a"}', TEXT, ":1: found the fields text, expected 'spans'"),
    (spans([0, 2, "PER"]), TEXT, r":1: found the span 0-2 'An' \(PER\) cuts the token 'Ana' \(0-3\)"),
    (spans([0, 14, "PER"]), TEXT, r":1: found the span 0-14 \(PER\); expected offsets from 0 to 13"),
    (spans([-1, 3, "PER"]), TEXT, r":1: found the span -1-3 \(PER\)"),
    (spans([3, 3, "PER"]), TEXT, r":1: found the span 3-3 \(PER\)"),
    (spans([3, 4, "PER"]), TEXT, r":1: found the span 3-4 ' ' \(PER\) has no token"),
    (spans([0, 3, "P R"]), TEXT, ":1: found the type 'P R', expected a name|the type 'P R'; expected a name"),
    (spans([0, 8, "PER"], [4, 8, "LOC"]), TEXT, r":1: found the span 4-8 'Ruiz' \(LOC\) overlaps 0-8"),
    (spans([0, 8, "PER"], [0, 8, "PER"]), TEXT, ":1: found the span 0-8 .* overlaps 0-8"),
    (spans({"start": 0.0, "end": 3, "label": "PER"}), TEXT, r":1: found the span \{.*; expected a table"),
    (spans({"start": True, "end": 3, "label": "PER"}), TEXT, ":1: found the span .*; expected a table with"),
    ('{"text": " ", "spans": [[0, 1, "X"]]}', TEXT, r":1: found the span 0-1 ' ' \(X\) has no token"),
    ('{"text": "", "spans": []}', TEXT, ":1: found no sentence"),
])  # fmt: skip
def test_other_lines_are_refused(tmp_path: Path, line: str, format: JsonlFormat, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        parse(tmp_path, line + "\n", format)


def test_a_giant_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="more than 16 MiB on a line"):
        parse(tmp_path, '{"tokens": "' + "x" * (1 << 24), JsonlFormat())


RECIPE = """
[corpus]
train = "a"
dev = "b"
test = "c"
source = "d"
[corpus.format]
{keys}
[translator]
kind = "copy"
source = "es"
"""


@pytest.mark.parametrize(("keys", "message"), [
    ('kind = "jsonl"\ntext = "text"', "corpus.format.language: expected a language code .* beside text"),
    ('kind = "jsonl"\nlanguage = "de"', "corpus.format.language: splits text, but text is empty"),
    ('kind = "jsonl"\ntext = "t"\nlanguage = "de"\nnames = ["O"]', "corpus.format.names: spell tags"),
    ('kind = "jsonl"\nlanguage = "../x"', "corpus.format.language: expected a language code"),
    ('kind = "jsonl"\nseparator = "tab"', r'separator: unknown key beside kind = \'jsonl\'.*spans'),
    ('kind = "conllu"\ndocstart = "x"', "docstart: unknown key beside kind = 'conllu'"),
    ('kind = "brat"', 'corpus.format.kind: expected "columns" | "conllu" | "jsonl"; found \'brat\''),
    ('names = ["O"]', "corpus.format.names: unknown key beside kind = 'columns'"),
])  # fmt: skip
def test_only_the_keys_of_a_kind_are_legal(tmp_path: Path, keys: str, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(keys=keys))
    with pytest.raises(RecipeError, match=message.replace(" | ", r" \| ")):
        load_recipe(str(path))


def test_a_kind_may_be_set_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(keys='token = 3\nscheme = "BIOES"'))
    assert load_recipe(str(path)).corpus.format.token == 3
    recipe = load_recipe(str(path), ("corpus.format.kind=jsonl", "corpus.format.tags=labels"))
    assert recipe.corpus.format == JsonlFormat(scheme="BIOES", tags="labels")
    assert recipe == from_json(json.loads(__import__("msgspec").json.encode(recipe)), "here")
