"""Situations of other tools' public tests of schemes, column files, scores and texts, with inputs of our own.

An id names the tool and its test. Where our result differs on purpose, a comment says why.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from backattn.common.errors import BackattnError
from backattn.corpus.detection import detect
from backattn.corpus.documents import Document, joined
from backattn.corpus.formats import parse_column_file
from backattn.corpus.input_raw import TextSplitter
from backattn.corpus.labelled import LabelledFile
from backattn.corpus.scoring import Counts, score
from backattn.corpus.spans import Span, predicted_spans, spans
from backattn.corpus.tags import TagError, from_bioes, to_bioes
from backattn.recipe import ColumnFormat, Scheme
from backattn.tagger.prediction import Prediction, ScoredSpan
from backattn.tagging.outputs import TaggedDocument, json_line


def case(name: str, *values: Any) -> Any:
    """A row of a table, by the name of the peer's test."""
    return pytest.param(*values, id=name)


# Schemes. seqeval reads what is illegal leniently or drops it; we refuse it in a corpus, by its place.


@pytest.mark.parametrize(("scheme", "tags", "entities"), [
    case("seqeval iob1_tokens, begins inside", "IOB1", "O I-A", [(1, 2, "A")]),
    case("seqeval iob1_tokens, other type", "IOB1", "I-A I-B", [(0, 1, "A"), (1, 2, "B")]),
    case("seqeval iob1_tokens, neighbours", "IOB1", "I-A B-A", [(0, 1, "A"), (1, 2, "A")]),
    # A B- where none is needed: seqeval leaves that token out; for conlleval and us it means the same as I-.
    case("seqeval iob1_tokens, needless B", "IOB1", "O B-A I-A", [(1, 3, "A")]),
    case("seqeval iob2_tokens, neighbours", "IOB2", "B-A B-A B-B", [(0, 1, "A"), (1, 2, "A"), (2, 3, "B")]),
    case("seqeval iob2_tokens, inside", "IOB2", "B-A I-A O", [(0, 2, "A")]),
    case("seqeval iob2_tokens, orphan", "IOB2", "O I-A", 1),
    case("seqeval iob2_tokens, other type", "IOB2", "B-A I-B", 1),
    case("seqeval iob2_tokens_without_tag", "IOB2", "B I", 0),
    case("seqeval iobes_tokens, single", "BIOES", "O S-A S-A", [(1, 2, "A"), (2, 3, "A")]),
    case("seqeval iobes_tokens, ends", "BIOES", "B-A E-A S-B", [(0, 2, "A"), (2, 3, "B")]),
    case("seqeval iobes_tokens, never ends", "BIOES", "B-A O", 1),
    case("seqeval iobes_tokens, only inside", "BIOES", "I-A E-A", 0),
    case("seqeval bilou, all prefixes", "BILOU", "U-A B-B I-B L-B", [(0, 1, "A"), (1, 4, "B")]),
    # Entities that end by E- alone: in no scheme of ours.
    case("seqeval ioe1_tokens", "IOB1", "I-A E-A", 1),
    case("seqeval ioe2_tokens", "BIOES", "O E-A", 1),
    case("seqeval token_tag, hyphens", "IOB2", "B-ORG-COMPANY I-ORG-COMPANY", [(0, 2, "ORG-COMPANY")]),
    case("seqeval token_tag, other letters", "IOB2", "B-組織", [(0, 1, "組織")]),
    # Type first: `init` and `convert` refuse it.
    case("seqeval get_entities_with_suffix_style", "IOB2", "A-B A-I", 0),
    case("seqeval get_entities", "IOB2", "O B-A I-A I-A O B-B", [(1, 4, "A"), (5, 6, "B")]),
    case("spaCy iob_to_biluo, not a tag", "IOB2", 'O " B-A', 1),
    case("flair span_labels, bare types", "IO", "O PART PART YEAR", [(1, 3, "PART"), (3, 4, "YEAR")]),
    case("nervaluate collect_named_entities, neighbours", "IOB2", "O B-A I-A B-A I-A",
         [(1, 3, "A"), (3, 5, "A")]),
    case("nervaluate collect_named_entities, none", "IOB2", "O O", []),
])  # fmt: skip
def test_entities_of_a_scheme(scheme: Scheme, tags: str, entities: list[tuple[int, int, str]] | int) -> None:
    if isinstance(entities, int):
        with pytest.raises(TagError) as refused:
            to_bioes(tags.split(), scheme)
        assert refused.value.position == entities
    else:
        assert spans(to_bioes(tags.split(), scheme)) == tuple(Span(*entity) for entity in entities)


@pytest.mark.parametrize(("tags", "entities"), [
    case("iobes_tokens, I alone", "I-A", []),
    case("iobes_tokens, B and single", "B-A S-A", [(1, 2, "A")]),
    case("iobes_tokens, other type ends", "B-A E-B", []),
    case("iobes_tokens, inside and single", "I-A S-A", [(1, 2, "A")]),
    case("iobes_tokens, single and end", "S-A E-A", [(0, 1, "A")]),
    case("iobes_tokens_without_tag", "S O", []),  # seqeval calls the type "_"; a tagger of ours has types
])  # fmt: skip
def test_entities_of_a_tagger_as_seqeval_reads_them(tags: str, entities: list[tuple[int, int, str]]) -> None:
    assert predicted_spans(tags.split()) == tuple(Span(*entity) for entity in entities)


def test_schemes_of_the_output() -> None:
    """spaCy iob_to_biluo, and the way back."""
    tags = to_bioes(["O", "B-A", "I-A", "O", "B-B"], "IOB2")
    assert " ".join(from_bioes(tags, "BILOU")) == "O B-A L-A O U-B"
    assert " ".join(from_bioes(to_bioes(from_bioes(tags, "BILOU"), "BILOU"), "IOB2")) == "O B-A I-A O B-B"


# Scores. nervaluate (tests/test_strategies.py, strict): what it calls incorrect is a false positive and a
# false negative; so do seqeval and we.


@pytest.mark.parametrize(("predicted", "counts"), [
    case("perfect_match", "O B-A I-A O O B-B I-B", (2, 0, 0)),
    case("missed_entity", "O B-A I-A O O O O", (1, 0, 1)),
    case("wrong_label", "O B-A I-A O O B-C I-C", (1, 1, 1)),
    case("wrong_boundary", "O B-A I-A O O B-B O", (1, 1, 1)),
    case("shifted_boundary", "O B-A I-A O O O B-B", (1, 1, 1)),
    case("extra_entity", "O B-A I-A O B-A B-C I-C", (1, 2, 1)),
    case("nothing predicted", "O O O O O O O", (0, 0, 2)),
    case("one entity of two", "O B-A B-A O O B-B I-B", (1, 2, 1)),
])  # fmt: skip
def test_strict_scores(predicted: str, counts: tuple[int, int, int]) -> None:
    gold = to_bioes(["O", "B-A", "I-A", "O", "O", "B-B", "I-B"], "IOB2")
    assert score([gold], [to_bioes(predicted.split(), "IOB2")]).overall == Counts(*counts)


def test_other_numbers_of_tags_are_refused() -> None:
    """seqeval align_lengths cuts or fills them; a prediction of another sentence is a mistake."""
    with pytest.raises(ValueError, match="differ in their number of sentences or tokens"):
        score([["O", "S-A"]], [["O"]])


# Column files of flair (tests/test_datasets.py, tests/resources), doccano's and nervaluate's readers of CoNLL


def shown(file: LabelledFile) -> str:
    """The sentences of a file as ``token/tag``."""
    tagged = [zip(s.tokens, from_bioes(s.tags, "IOB2"), strict=True) for s in file.sentences]
    return " | ".join(" ".join(map("/".join, pairs)) for pairs in tagged)


@pytest.mark.parametrize(("content", "format", "expected"), [
    case("flair load_sequence_labeling_data", "Ana _ _ B-PER\nva _ _ O\n\nLugo _ _ B-LOC", ColumnFormat(),
         "Ana/B-PER va/O | Lugo/B-LOC"),
    case("flair load_germeval_data", "#\tn-tv\t[2010]\n1\tAna\tB-PER\tO\n2\tva\tO\tO\n",
         ColumnFormat(token=1, tag=2, separator="tab", comment="#"), "Ana/B-PER va/O"),
    case("flair sequence_labeling_whitespace_after", "Ana B-PER -\n. O +\n", ColumnFormat(tag=1),
         "Ana/B-PER ./O"),
    case("flair column_corpus_options, a blank in a token", "va\tO\nSan Juan\tB-LOC\n",
         ColumnFormat(separator="tab"), "va/O San Juan/B-LOC"),
    case("flair span_labels, bare types and separators", "-DOCSTART-\n\nRz. O\nRAB PART\n8. PART",
         ColumnFormat(scheme="IO", docstart="-DOCSTART-"), "Rz./O RAB/B-PART 8./I-PART"),
    # A separator that the recipe does not name would be a word.
    case("flair trivial_bioes_with_boundaries, not named", "-DOCSTART-\n\nAna B-PER\n", ColumnFormat(),
         "a.txt:1: found '-DOCSTART-', expected a token"),
    # flair takes a line without the tag's column for an O.
    case("flair, a line of one column", "Ana B-PER\nva\n", ColumnFormat(),
         "a.txt:2: found 1 column, expected 2"),
    case("flair, a line of blanks", "Ana B-PER\n \t \nva O\n", ColumnFormat(), "Ana/B-PER | va/O"),
    # flair splits at any blank of Unicode: its tag would be Gil.
    case("flair column_delimiter, no-break space", "Ana\u00a0Gil B-PER\n", ColumnFormat(),
         "Ana\u00a0Gil/B-PER"),
    case("doccano conll_parser can_read", "Ana\tB-PER\nGil\tI-PER\n\nva\tO\n\n", ColumnFormat(),
         "Ana/B-PER Gil/I-PER | va/O"),
    case("nervaluate loader_with_invalid_data", "invalid\tdata\n", ColumnFormat(),
         "a.txt:1: found tag 'data'"),
    case("nervaluate loader_with_empty_input", "", ColumnFormat(), "a.txt:1: found no sentence"),
])  # fmt: skip
def test_column_files(tmp_path: Path, content: str, format: ColumnFormat, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content, "utf-8")
    if expected.startswith("a.txt:"):
        with pytest.raises(BackattnError, match=expected):
            parse_column_file(path, format)
        return
    assert shown(parse_column_file(path, format)) == expected


# The same kinds of files where nobody has said their form: what `backattn init` makes of them


@pytest.mark.parametrize(("content", "expected"), [
    case("flair load_sequence_labeling_data", "Ana _ _ B-PER\nva _ _ O\n\nLugo _ _ B-LOC\nes _ _ O",
         "Ana/B-PER va/O | Lugo/B-LOC es/O"),
    case("flair sequence_labeling_whitespace_after", "Ana B-PER -\nva O +\n. O +\n", "Ana/B-PER va/O ./O"),
    # flair is told to skip the first line.
    case("flair column_corpus_options", "WORD\tTAG\nva\tO\nSan Juan\tB-LOC\n",
         "a.txt:1: found 'WORD.*TAG', the names of columns"),
    case("flair span_labels, bare types", "-DOCSTART-\n\nver O\nRAB PART\n8. PART\nx O\ny O\n",
         "ver/O RAB/B-PART 8./I-PART x/O y/O"),
    case("flair load_conllu_plus_corpus",
         "# global.columns = id form ner misc\n1\tAna\tB-PER\t_\n2\tva\tO\tX=Y\n", "Ana/B-PER va/O"),
    case("spaCy name_ner_map",
         "1\tAna\t_\tX\t_\t_\t0\tr\t_\tname=B-PER\n2\tva\t_\tX\t_\t_\t1\tx\t_\tname=O\n", "Ana/B-PER va/O"),
    case("spaCy conllu_empty_heads_ner", "1\tAna\t_\tX\t_\t_\t_\tr\t_\t_\n2\tva\t_\tX\t_\t_\t_\tx\t_\t_\n",
         "a.txt:1: found no column of tags"),
    case("spaCy iob_to_docs", "Ana|B-PER va|O\nLugo|B-LOC .|O\n", "a.txt:1: found no column of tags"),
    case("spaCy iob_to_biluo", "Ana U-PER\nva O\nSan B-LOC\nJuan L-LOC\n",
         "Ana/B-PER va/O San/B-LOC Juan/I-LOC"),
    case("seqeval iob1_tokens", "Ana I-PER\nva O\nGil I-PER\nLuz B-PER\n",
         "Ana/B-PER va/O Gil/B-PER Luz/B-PER"),
    case("seqeval ioe2_tokens", "Ana E-PER\nva O\nSan I-LOC\nJuan E-LOC\n",
         "a.txt:1: found E-PER at the start"),
    case("label-studio-converter, its CoNLL 2003", "-DOCSTART- -X- O\nAna -X- _ B-PER\nva -X- _ O\n",
         "Ana/B-PER va/O"),
    case("brat anntoconll, tags before tokens", "B-PER\t0\t3\tAna\nO\t4\t6\tva\n", "Ana/B-PER va/O"),
])  # fmt: skip
def test_forms_that_are_found(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content, "utf-8")
    if expected.startswith("a.txt:"):
        with pytest.raises(BackattnError, match=expected):
            detect([path], "es")
    else:
        assert shown(detect([path], "es").files[0]) == expected


# Texts of flair (tests/test_tokenize_sentence.py): tokens, and where they begin


@pytest.mark.parametrize(("text", "tokens", "starts"), [
    case("create_sentence_on_empty_string", "", [], []),
    case("create_sentence_with_extra_whitespace", "Ana  va a Lugo .", ["Ana", "va", "a", "Lugo", "."],
         [0, 5, 8, 10, 15]),
    case("token_positions_when_creating_with_tokenizer", " Ana va  a Lugo.",
         ["Ana", "va", "a", "Lugo", "."], [1, 5, 9, 11, 15]),
    case("create_sentence_with_newline", "yo \t ich", ["yo", "ich"], [0, 5]),
    case("create_sentence_difficult_encoding, zero-width space", "x \u200b , θ", ["x", ",", "θ"], [0, 4, 6]),
    case("create_sentence_difficult_encoding, emoji", "norm ❤️ moment️", ["norm", "❤️", "moment️"],
         [0, 5, 8]),
    # flair takes it out of the text: offsets would not be the user's.
    case("line_separator_is_ignored", "Lugo-\u2028Vigo", ["Lugo-", "Vigo"], [0, 6]),
    case("print_original_text", ":    nación en", [":", "nación", "en"], [0, 5, 12]),
])  # fmt: skip
def test_tokens_of_a_text(text: str, tokens: list[str], starts: list[int]) -> None:
    found = TextSplitter("es", "word").sentences(text, "a:1")
    assert [token for sentence in found for token in sentence.tokens] == tokens
    assert [start for sentence in found for start, _ in sentence.places] == starts


@pytest.mark.parametrize(("text", "sentences"), [
    case("split_text_segtok", "Ana va a Lugo. Lugo es una ciudad.",
         ["Ana va a Lugo.", "Lugo es una ciudad."]),
    case("split_text_on_newline", "Ana va\n \nYo no", ["Ana va", "Yo no"]),
    case("split_text_nosplit", "Ana va a Lugo", ["Ana va a Lugo"]),
])  # fmt: skip
def test_sentences_of_a_text(text: str, sentences: list[str]) -> None:
    found = TextSplitter("es", "word").sentences(text, "a:1")
    assert [text[s.places[0][0] : s.places[-1][1]] for s in found] == sentences


def test_positions_of_given_tokens() -> None:
    """flair token_positions_when_creating_word_by_word."""
    document = joined(["Yo", "amo", "Lugo", "."], "word")
    assert (document.text, document.sentences[0].places) == (
        "Yo amo Lugo .",
        ((0, 2), (3, 6), (7, 11), (12, 13)),
    )


# Entities of a tagged text: transformers (tests/pipelines/test_pipelines_token_classification.py)


@pytest.mark.parametrize(("text", "tags", "entities"), [
    case("simple", "Ana Gil Luz vive en Lugo", "B-A I-A E-A O O S-B", [("Ana Gil Luz", "A"), ("Lugo", "B")]),
    # Its strategy "simple" cuts a word whose pieces have two B-; our tags are of words.
    case("spanish_bert", "Consuelo Gil vive", "B-A E-A O", [("Consuelo Gil", "A")]),
    case("aggregation_strategy_offsets_with_leading_space", "En  Villa Rica", "O B-A E-A",
         [("Villa Rica", "A")]),
    # The full stop is part of its last word; ours is a token.
    case("aggregation_strategy_byte_level_tokenizer", "Va a Lugo.", "O O S-A O", [("Lugo", "A")]),
    case("aggregation_strategy, neighbours of a type", "Ana Gil", "S-A S-A", [("Ana", "A"), ("Gil", "A")]),
    case("small_model_pt, nothing but O", "Va a Lugo", "O O O", []),
    case("emoji before an entity", "👩‍❤️‍👩 Ana", "O S-A", [("Ana", "A")]),
])  # fmt: skip
def test_entities_of_a_tagged_text(text: str, tags: str, entities: list[tuple[str, str]]) -> None:
    sentences = TextSplitter("es", "word").sentences(text, "a:1")
    found = tuple(ScoredSpan(span, 0.5) for span in spans(tags.split()))
    tagged = TaggedDocument(Document(text, sentences), (Prediction(tuple(tags.split()), found),))
    told = json.loads(json_line(tagged))["entities"]
    assert [(entity["text"], entity["type"]) for entity in told] == entities
    assert [text[entity["start"] : entity["end"]] for entity in told] == [words for words, _ in entities]
