"""Situations of other tools' public tests of offsets and exports, each with an input of our own.

An id names the tool and its test, or its issue. The result is the tool's; where ours differs on purpose, a
comment says why: mostly, we refuse what it would guess or drop.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from backattn.common.errors import BackattnError
from backattn.conversion.convert import Conversion, convert_file
from backattn.conversion.source import Options


class Refused(NamedTuple):
    """A file is refused by a message that has this pattern."""

    pattern: str


Expected = str | Refused


def case(name: str, *values: Any) -> Any:
    """A row of a table, by the name of the peer's test."""
    return pytest.param(*values, id=name)


def convert(path: Path, language: str = "es", **more: Any) -> tuple[str, Conversion]:
    """The sentences of a file as ``token/tag``, and what was done."""
    out = path.parent / "out.tsv"
    done = convert_file(path, out, kind=None, options=Options(language=language, **more), replace=True)
    sentences = out.read_text("utf-8").rstrip("\n").split("\n\n")
    return " | ".join(" ".join(s.replace("\t", "/").split("\n")) for s in sentences), done


def check(path: Path, expected: Expected, **more: Any) -> None:
    if isinstance(expected, Refused):
        with pytest.raises(BackattnError, match=expected.pattern):
            convert(path, **more)
    else:
        assert convert(path, **more)[0] == expected


def write(folder: Path, name: str, *rows: Any) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def at(text: str, word: str, kind: str, *, before: int = 0, after: int = 0) -> list[Any]:
    """The span of a word, and of some characters around it."""
    start = text.index(word)
    return [start - before, start + len(word) + after, kind]


# spaCy: tokens that are given, and the offsets of entities in their text (tests/training/test_training.py)


def tokens(*words: str) -> dict[str, Any]:
    """Text and tokens as Prodigy writes them; ``_`` before a word: no blank before it."""
    text, found = "", []
    for word in words:
        text += "" if word.startswith("_") or not text else " "
        word = word.removeprefix("_")
        found.append({"text": word, "start": len(text), "end": len(text) + len(word)})
        text += word
    return {"text": text, "tokens": found}


LUGO = tokens("Vivo", "en", "Lugo", "_.")
TWO = tokens("Voy", "a", "San", "Juan", "_.")
THREE = tokens("Voy", "a", "Villa", "San", "Juan", "_.")


@pytest.mark.parametrize(("row", "spans", "expected"), [
    case("spaCy gold_biluo_U", LUGO, [("Lugo", "LOC")], "Vivo/O en/O Lugo/B-LOC ./O"),
    case("spaCy gold_biluo_BL", TWO, [("San Juan", "LOC")], "Voy/O a/O San/B-LOC Juan/I-LOC ./O"),
    case("spaCy gold_biluo_BIL", THREE, [("Villa San Juan", "LOC")],
         "Voy/O a/O Villa/B-LOC San/I-LOC Juan/I-LOC ./O"),
    case("spaCy gold_biluo_overlap", THREE, [("Villa San Juan", "LOC"), ("Villa San", "LOC")],
         Refused(r"'Villa San' \(LOC\) overlaps .* 'Villa San Juan'")),
    # spaCy warns, and tags all three as unknown.
    case("spaCy gold_biluo_misalign", tokens("Voy", "a", "San", "Juan."), [("San Juan", "LOC")],
         Refused(r"cuts the token 'Juan\.' .* expected whole tokens")),
    case("spaCy gold_biluo_one_to_many", tokens("Ana y Gil", "van", "a", "San Juan"), [("San Juan", "LOC")],
         "Ana y Gil/O van/O a/O San Juan/B-LOC"),
    # spaCy tags the longer token as unknown.
    case("spaCy gold_biluo_one_to_many, part of a token", tokens("Ana", "y", "Gil Ruiz", "van"),
         [("Gil", "PER")], Refused("cuts the token 'Gil Ruiz'")),
    case("spaCy gold_biluo_additional_whitespace", tokens("Voy", "  ", "a", "San", "Juan"),
         [("San Juan", "LOC")], "Voy/O a/O San/B-LOC Juan/I-LOC"),
    case("spaCy gold_biluo_4791", tokens("Pago", "₹", "_60"), [("60", "MONEY")], "Pago/O ₹/O 60/B-MONEY"),
    case("spaCy goldparse_startswith_space", tokens(" ", "_Lugo"), [("Lugo", "LOC")], "Lugo/B-LOC"),
    case("spaCy goldparse_endswith_space", tokens("Lugo", "_\n"), [("Lugo", "LOC")], "Lugo/B-LOC"),
    case("GLiNER empty_predictions", TWO, [], "Voy/O a/O San/O Juan/O ./O"),
])  # fmt: skip
def test_offsets_become_tags_of_tokens(tmp_path: Path, row: Any, spans: Any, expected: Expected) -> None:
    found = [dict(zip(("start", "end", "label"), at(row["text"], *span), strict=True)) for span in spans]
    check(write(tmp_path, "a.jsonl", {**row, "spans": found}), expected)


def test_offsets_make_a_round_trip(tmp_path: Path) -> None:
    """spaCy roundtrip_offsets_biluo_conversion, biluo_spans."""
    text = "Voy de Villa Rica a Lugo."
    path = write(
        tmp_path, "a.jsonl", {"text": text, "label": [at(text, "Villa Rica", "A"), at(text, "Lugo", "B")]}
    )
    assert convert(path)[0] == "Voy/O de/O Villa/B-A Rica/I-A a/O Lugo/B-B ./O"


# Overlaps. spaCy's filter_spans (tests/doc/test_span.py) keeps the longest, of equals the first; so do we.
# GLiNER with flat_ner (tests/test_decoder.py) keeps the likeliest: a file of annotators has no scores.


@pytest.mark.parametrize(("words", "kept", "dropped"), [
    case("spaCy filter_spans, duplicates", ["b c d", "g h", "b c d", "k l"], "BIIOOBIOOBI", 1),
    case("spaCy filter_spans, longest", ["b c d", "b c", "f g h i j", "h i", "b c d"], "BIIOBIIIIOO", 3),
    case("spaCy filter_spans, first of equals", ["b c d", "c d e", "f g h"], "BIIOBIIOOOO", 1),
    case("GLiNER flat_ner_removes_overlaps", ["b", "b c"], "BIOOOOOOOOO", 1),
    case("GLiNER flat_ner, neighbours stay", ["b", "c", "d e"], "BBBIOOOOOOO", 0),
])  # fmt: skip
def test_the_longest_of_overlapping_spans_is_kept(
    tmp_path: Path, words: list[str], kept: str, dropped: int
) -> None:
    row = tokens(*"abcdefghijkl")
    spans = [dict(zip(("start", "end", "label"), at(row["text"], word, "X"), strict=True)) for word in words]
    path = write(tmp_path, "a.jsonl", {**row, "spans": spans})
    text, done = convert(path, overlap="longest")
    assert ["".join(pair.split("/")[1][0] for pair in text.split()), done.overlapping] == [
        "O" + kept,
        dropped,
    ]
    if dropped:  # spaCy add_overlapping_entities, GLiNER nested_ner_keeps_overlaps: no scheme holds both
        check(path, Refused("overlaps .* expected one entity at a place"))


# doccano (backend/data_import/tests; issues), and flair, which reads its files (tests/test_datasets.py)


TEXT = "Ana Gil vive en Lugo."
TAGGED = "Ana/B-PER Gil/I-PER vive/O en/O Lugo/B-LOC ./O"
PLAIN = "Ana/O Gil/O vive/O en/O Lugo/O ./O"
BOTH = [[0, 7, "PER"], [16, 20, "LOC"]]
NFD = "De\u0301cio vive en Me\u0301rida."
EMOJI = "👩‍❤️‍👩 Ana 🎊 Lugo"


@pytest.mark.parametrize(("row", "expected"), [
    case("doccano span_label parse_tuple", {"text": TEXT, "label": BOTH}, TAGGED),
    case("doccano span_label parse_dict",
         {"text": TEXT, "entities": [{"label": "PER", "start_offset": 0, "end_offset": 7},
                                    {"label": "LOC", "start_offset": 16, "end_offset": 20}]},
         TAGGED),
    case("doccano span_label parse_invalid_dict",
         {"text": TEXT, "entities": [{"label": "PER", "start_offset": 0}]},
         Refused("expected a table with start, end")),
    case("doccano span_label invalid_negative_offset", {"text": TEXT, "label": [[-1, 3, "PER"]]},
         Refused("the span -1-3")),
    case("doccano span_label invalid_offset", {"text": TEXT, "label": [[3, 0, "PER"]]},
         Refused("the span 3-0")),
    case("doccano category_label empty_label_raises_value_error", {"text": TEXT, "label": [[0, 3, ""]]},
         Refused("the type ''")),
    case("doccano jsonl_with_overlapping", {"text": TEXT, "label": [[0, 7, "PER"], [0, 3, "PER"]]},
         Refused("overlaps")),
    case("doccano import_sequence_labeling jsonl, no span", {"text": TEXT, "label": []}, PLAIN),
    case("doccano entities_and_cats", {"text": TEXT, "cats": ["x"], "entities": BOTH}, TAGGED),
    case("doccano check_column_existence", {"id": 1, "label": BOTH}, Refused("of no known form")),
    case("spaCy tuple_format_implicit_invalid", {"text": TEXT, "frumble": BOTH},
         Refused("the fields text, frumble, which are of no known")),
    case("doccano classification jsonl", {"text": TEXT, "label": ["good"]}, Refused("the span 'good'")),
    case("doccano json_parser read", [{"text": TEXT, "label": []}], PLAIN),
    case("doccano json_parser read, with spans", [{"text": TEXT, "label": BOTH}],
         Refused("a span of doccano; write an object on each line .*, and say --from doccano")),
    case("doccano issue 2264, letters and marks",
         {"text": NFD, "label": [at(NFD, "De\u0301cio", "PER"), at(NFD, "Me\u0301rida", "LOC")]},
         "De\u0301cio/B-PER vive/O en/O Me\u0301rida/B-LOC ./O"),
    case("doccano pull 108, emoji",
         {"text": EMOJI, "label": [at(EMOJI, "Ana", "PER"), at(EMOJI, "Lugo", "LOC")]},
         "👩‍❤️‍👩/O Ana/B-PER 🎊/O Lugo/B-LOC"),
    # Offsets of before that pull: nothing in the file says that they count otherwise.
    case("doccano pull 99, offsets in UTF-16", {"text": "🎊 Lugo", "label": [[3, 7, "LOC"]]},
         Refused("the span 3-7")),
    case("flair reading_jsonl_dataset", {"id": 1, "data": TEXT, "label": [[16, 21, "LOC"]]},
         "Ana/O Gil/O vive/O en/O Lugo/B-LOC ./I-LOC"),
    # GLiNER's own form of training data, which counts tokens.
    case("GLiNER data_processing", {"tokenized_text": ["Ana", "va"], "ner": [[0, 0, "PER"]]},
         Refused("expected two lists of equal")),
    case("GLiNER data_processing, as many entities as tokens",
         {"tokenized_text": ["Ana"], "ner": [[0, 0, "PER"]]},
         Refused(r"the tag \[0, 0, 'PER'\], expected a text; write one tag for each token")),
])  # fmt: skip
def test_exports_of_doccano(tmp_path: Path, row: Any, expected: Expected) -> None:
    check(write(tmp_path, "a.jsonl", row), expected)


def test_several_texts_of_doccano(tmp_path: Path) -> None:
    """doccano spans clean_with_multiple_examples: those of two texts do not overlap. An empty text, which
    doccano refuses, holds no sentence."""
    rows = (
        {"text": "Lugo", "label": [[0, 4, "A"]]},
        {"text": "", "label": []},
        {"text": "Gil", "label": [[0, 3, "B"]]},
    )
    assert convert(write(tmp_path, "a.jsonl", *rows))[0] == "Lugo/B-A | Gil/B-B"


# Label Studio (label-studio-converter: tests/test_export_conll.py, test_export_json_min.py; issues)


def studio(text: str, *spans: list[Any], shown: str | None = None) -> list[Any]:
    """A task; a span says its words."""
    results = [
        {"type": "labels", "to_name": "text", "value": {
            "start": start, "end": end, "labels": kind if isinstance(kind, list) else [kind],
            "text": text[start:end] if shown is None else shown}}
        for start, end, kind in spans
    ]  # fmt: skip
    return [{"id": 1, "data": {"text": text}, "annotations": [{"result": results}]}]


def ours(text: str, word: str, **more: Any) -> list[Any]:
    return studio(text, at(text, word, "X", **more))


@pytest.mark.parametrize(("tasks", "expected"), [
    # The converter goes on with the sentence; a line feed ends ours.
    case("tags_with_eol_tag", ours("Voy a Lugo\nhoy", "Lugo"), "Voy/O a/O Lugo/B-X | hoy/O"),
    case("tags_with_tab_tag", ours("Voy a Lugo\thoy", "Lugo"), "Voy/O a/O Lugo/B-X hoy/O"),
    # The converter widens the span to the token.
    case("tags_for_full_token", ours("Voy a Lugo hoy", "ugo"), Refused("cuts the token 'Lugo'")),
    case("tags_with_leading_space", ours("Voy a Lugo hoy", "Lugo", before=1), "Voy/O a/O Lugo/B-X hoy/O"),
    case("tags_with_trailing_space", ours("Voy a Lugo hoy", "Lugo", after=1), "Voy/O a/O Lugo/B-X hoy/O"),
    case("token_with_dollar_sign", ours("Pago $4.50 hoy", "$4.50"), "Pago/O $/B-X 4.50/I-X hoy/O"),
    case("token_with_slash_sign", studio("De Acme/Zeta", [3, 7, "A"], [8, 12, "B"]),
         "De/O Acme/B-A //O Zeta/B-B"),
    case("token_with_ampersand_sign", ours("De Acme&Zeta", "Acme"), "De/O Acme/B-X &/O Zeta/O"),
    case("token_with_hash_sign", ours("De Acme#Zeta", "Acme"), "De/O Acme/B-X #/O Zeta/O"),
    # Such names are one word of Moses; the converter's issue 15 asks for the same as we do.
    case("issue 15, names with hyphens", ours("El AHU-G1-Md", "Md"),
         Refused("cuts the token 'AHU-G1-Md' .* or add a blank")),
    case("issue 2007, end past the text", studio("En Lugo", [3, 8, "X"]), Refused("offsets from 0 to 7")),
    case("issue 37, shifted spans", studio("En Lugo", [0, 4, "X"], shown="Lugo"),
         Refused("found 'En L' at 0-4, expected 'Lugo'")),
    # Offsets of browsers: the converter shifts the label (issue 1347).
    case("issue 1347, emoji", studio("💩 Lugo", [3, 7, "X"], shown="Lugo"), "💩/O Lugo/B-X"),
    case("issue 254, two labels of a span", studio("En Lugo", [3, 7, ["A", "B"]]),
         Refused("a span with the labels .*, expected one")),
    case("simple_json_min",
         [{"id": 1, "text": "En Lugo", "label": [{"start": 3, "end": 7, "text": "Lugo", "labels": ["X"]}],
           "annotator": 1, "created_at": "now"}],
         "En/O Lugo/B-X"),
    case("predictions alone",
         [{"id": 1, "data": {"text": "En Lugo"}, "annotations": [], "predictions": [{"result": []}]}],
         Refused("found no sentence .*, 1 texts that are not annotated")),
])  # fmt: skip
def test_exports_of_label_studio(tmp_path: Path, tasks: Any, expected: Expected) -> None:
    check(write(tmp_path, "a.json", tasks), expected)


def test_chinese_of_label_studio(tmp_path: Path) -> None:
    """label-studio issue 1250: the converter makes one token of a Chinese sentence."""
    text, _ = convert(write(tmp_path, "a.json", ours("我爱北京", "北京")), language="zh")
    assert text == "我/O 爱/O 北/B-X 京/I-X"


# brat (tools/anntoconll.py; its documentation of the standoff format; issues)


@pytest.mark.parametrize(("text", "annotations", "expected"), [
    # anntoconll.py cannot read it.
    case("standoff, discontinuous", "Alta y Baja Frisia", "T1\tLOC 0 4;12 18\tAlta Frisia",
         Refused("the discontinuous entity 0 4;12 18")),
    case("issue 1042, newline", "Ana\n  Gil va", "T1\tPER 0 3;6 9\tAna Gil", "Ana/B-PER Gil/I-PER va/O"),
    case("issue 1042, as brat wrote it", "Ana\n  Gil va", "T1\tPER 0 3;4 9\tAna   Gil",
         "Ana/B-PER Gil/I-PER va/O"),
    case("pull 1174, tab", "Ana\tGil va", "T1\tPER 0 3;4 7\tAna Gil", "Ana/B-PER Gil/I-PER va/O"),
    case("three parts side by side", "Ana Gil Luz", "T1\tPER 0 3;4 7;8 11\tAna Gil Luz",
         "Ana/B-PER Gil/I-PER Luz/I-PER"),
    case("parts in another order", "Ana Gil", "T1\tPER 4 7;0 3\tGil Ana",
         Refused("the discontinuous entity 4 7;0 3")),
    case("characters, not UTF-16 units", "𝒜 Lugo", "T1\tLOC 2 6\tLugo", "𝒜/O Lugo/B-LOC"),
    case("CRLF counts as two", "Ana\r\nGil", "T1\tPER 0 3;5 8\tAna Gil", "Ana/B-PER Gil/I-PER"),
    case("CRLF counted as one", "Ana\r\nGil", "T1\tPER 0 3;4 7\tAna Gil", Refused("line ends count")),
    case("anntoconll eliminate_overlaps", "Ana Gil", "T1\tPER 0 7\tAna Gil\nT2\tX 0 3\tAna",
         Refused("'Ana' .X. overlaps 0-7")),  # keeps the longer, and says so: `--overlap longest`
    case("anntoconll relabel, neighbours of a type", "Ana Gil", "T1\tPER 0 3\tAna\nT2\tPER 4 7\tGil",
         "Ana/B-PER Gil/B-PER"),  # joins them
    case("anntoconll boundary mismatch", "Gilito", "T1\tPER 0 3\tGil", Refused("cuts the token 'Gilito'")),
    case("a text without entities", "Ana va", "", "Ana/O va/O"),
    case("standoff, other lines", "Ana va",
         "T1\tPER 0 3\tAna\nE1\tGo:T2 Who:T1\nR1\tOf Arg1:T1 Arg2:T1\n*\tEquiv T1 T1\nA1\tNeg E1\n"
         "M1\tNeg E1\nN1\tReference T1 W:1\tAna\n#1\tNote T1\tx",
         "Ana/B-PER va/O"),
])  # fmt: skip
def test_folders_of_brat(tmp_path: Path, text: str, annotations: str, expected: Expected) -> None:
    folder = tmp_path / "brat"
    folder.mkdir()
    (folder / "a.txt").write_text(text, "utf-8", newline="")
    (folder / "a.ann").write_text(annotations, "utf-8")
    check(folder, expected)


# Files of spaCy (tests/training/test_training.py, tests/serialize/test_serialize_docbin.py)


def docbin(folder: Path, *documents: dict[str, Any], attrs: tuple[str, ...] = ()) -> Path:
    spacy = pytest.importorskip("spacy", reason="spacy makes the DocBin (backattn[convert])")
    from spacy.tokens import Doc, DocBin

    vocab = spacy.blank("xx").vocab
    docs = [Doc(vocab, **document) for document in documents]
    path = folder / "a.spacy"
    DocBin(attrs or DocBin().attrs, docs=docs).to_disk(path)
    return path


NAMES = {"words": ["Ana", "Gil", "va"], "ents": ["B-PER", "I-PER", "O"]}


def test_documents_that_nobody_has_annotated_are_left_out_and_counted(tmp_path: Path) -> None:
    """spaCy json_to_docs_no_ner, example_from_dict_no_ner: without entities is not without annotation."""
    text, done = convert(docbin(tmp_path, {"words": ["Luz", "va"]}, NAMES))
    assert (text, done.rejected) == ("Ana/B-PER Gil/I-PER va/O", 1)
    check(
        docbin(tmp_path, {"words": ["Luz", "va"]}), Refused("no sentence .*, 1 texts that are not annotated")
    )


@pytest.mark.parametrize(("document", "attrs", "expected"), [
    case("roundtrip_docs_to_docbin", NAMES, (), "Ana/B-PER Gil/I-PER va/O"),
    # spaCy learns nothing from such a token; our tagger would learn that it is no name.
    case("gold_ner_missing_tags", {"words": ["Ana", "va"], "ents": [None, "O"]}, (),
         Refused("document 1: token 1, 'Ana', is not annotated, expected all tokens or none")),
    case("a blank without tag", {"words": [" ", "Ana"], "ents": [None, "B-PER"]}, (), "Ana/B-PER"),
    case("no entity, as annotated", {"words": ["Ana", "va"], "ents": ["O", "O"]}, (), "Ana/O va/O"),
    case("serialize_doc_bin_unknown_spaces", {"words": ["d", "'Ana"], "ents": ["O", "B-PER"]}, (),
         "d/O 'Ana/B-PER"),
    case("serialize_doc_bin_unknown_spaces, known",
         {"words": ["d", "'Ana"], "spaces": [False, False], "ents": ["O", "B-PER"]}, (), "d/O 'Ana/B-PER"),
    case("issue4367", NAMES, ("LEMMA", "ENT_IOB", "ENT_TYPE"), "Ana/B-PER Gil/I-PER va/O"),
    case("issue4367, no entities", NAMES, ("LEMMA",),
         Refused("a.spacy: holds no ENT_IOB and no ENT_TYPE, expected the entities")),
])  # fmt: skip
def test_documents_of_spacy(
    tmp_path: Path, document: Any, attrs: tuple[str, ...], expected: Expected
) -> None:
    check(docbin(tmp_path, document, attrs=attrs), expected)


def test_an_empty_docbin(tmp_path: Path) -> None:
    """spaCy issue5141."""
    check(docbin(tmp_path), Refused(r"found no sentence \(as docbin\); is the kind the right one"))


# Column files that spaCy's converters and flair read (spaCy tests/test_cli.py; flair tests/test_datasets.py)


def conllu(*misc: str) -> str:
    """Lines of CoNLL-U with the given last columns."""
    words = ("Ana", "Gil", "va")
    return "".join(
        f"{n}\t{w}\t_\tX\t_\t_\t0\tdep\t_\t{m}\n" for n, (w, m) in enumerate(zip(words, misc, strict=True), 1)
    )


NAME = "Ana/B-PER Gil/I-PER va/O"


@pytest.mark.parametrize(("content", "expected"), [
    case("spaCy conllu_to_docs", conllu("B-PER", "I-PER", "O"), NAME),
    case("spaCy name_ner_map, name", conllu("name=B-PER", "SpaceAfter=No|name=I-PER", "name=O"), NAME),
    case("spaCy name_ner_map, NE and BILUO", conllu("NE=B-PER", "NE=L-PER", "SpaceAfter=No"), NAME),
    case("the key of the most entities", conllu("Id=O", "NER=B-PER", "_"), "Ana/O Gil/B-PER va/O"),
    # spaCy leaves such entities unset.
    case("spaCy conllu_empty_heads_ner", conllu("_", "_", "SpaceAfter=No"),
         Refused(r"a\.conllu:1: found tag '_'")),
    # spaCy can merge the words of a range.
    case("spaCy conllu_to_docs_subtokens",
         "1-2\tAG\t_\t_\t_\t_\t_\t_\t_\t_\n" + conllu("name=B-PER", "name=I-PER", "name=O"), NAME),
    case("flair load_conllu_plus_corpus",
         "# global.columns = id form ner misc\n# text = Ana Gil va\n1\tAna\tB-PER\t_\n2\tGil\tI-PER\t_\n"
         "3\tva\tO\tSpaceAfter=No\n",
         NAME),
    case("spaCy conll_ner_to_docs", "-DOCSTART- -X- O O\n\nAna N _ B-PER\nGil N _ I-PER\nva V _ O", NAME),
    case("flair trivial_bioes_with_boundaries",
         "-DOCSTART-\n\nAna B-PER\nGil I-PER\nva O\n\n-DOCSTART-\n\nva O", NAME + " | va/O"),
    # spaCy reads sentences of other columns in one file.
    case("spaCy conll_ner_to_docs, other columns", "Ana\tB-PER\n\nGil N I-PER\n",
         Refused("a.conllu:3: found 3 columns, expected 2 as in the lines")),
    case("spaCy iob_to_docs", "Ana|B-PER va|O\n", Refused(r"a\.conllu:1: found tag 'va\|O'")),
    case("flair comment_symbol", "# id = 1\nAna B-PER\nGil I-PER\nva O\n", NAME),
    # flair is told to skip the first line.
    case("flair column_corpus_options", "WORD\tTAG\nAna\tB-PER\n", Refused("a.conllu:1: found tag 'TAG'")),
    case("flair whitespace_after", "Ana B-PER -\nva O +\n", Refused("a.conllu:1: found tag '-'")),
    case("doccano wrong_conll", "Ana B-PER\nGil PER\n", Refused("a.conllu:2: found tag 'PER'")),
])  # fmt: skip
def test_column_files(tmp_path: Path, content: str, expected: Expected) -> None:
    path = tmp_path / "a.conllu"
    path.write_text(content, "utf-8")
    check(path, expected)
