"""Scores against seqeval's own report, and golden rows."""

import json
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOBES

from backattn.corpus.scoring import Counts, Score, count, count_types, entities, score, total
from backattn.report.significance import f1
from examples import examples

ANY_TAG = st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in ("PER.NAM", "PER.NOM", "LOC.NAM"))])


@st.composite
def tag_pairs(draw, tag=ANY_TAG):
    """Gold and predicted tags of the same lengths, legal or not."""
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    sides = [[draw(st.lists(tag, min_size=n, max_size=n)) for n in lengths] for _ in range(2)]
    return sides[0], sides[1]


def report(gold, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return classification_report(
            gold, predicted, mode="strict", scheme=IOBES, output_dict=True, zero_division=0
        )


# gold, predicted, (tp, fp, fn)
GOLDEN = [
    (["O"], ["O"], (0, 0, 0)),
    (["O"], ["S-X"], (0, 1, 0)),
    (["S-X"], ["O"], (0, 0, 1)),
    (["S-X"], ["S-X"], (1, 0, 0)),
    (["S-X"], ["S-Y"], (0, 1, 1)),
    (["B-X", "E-X"], ["B-X", "E-X"], (1, 0, 0)),
    (["B-X", "I-X", "E-X"], ["B-X", "E-X", "O"], (0, 1, 1)),
    # Strict: what does not begin with B and end with E is no entity at all.
    (["B-X", "E-X"], ["I-X", "E-X"], (0, 0, 1)),
    (["B-X", "E-X"], ["B-X", "I-X"], (0, 0, 1)),
    (["B-X", "E-X"], ["B-X", "E-Y"], (0, 0, 1)),
]


@pytest.mark.parametrize(("gold", "predicted", "counts"), GOLDEN)
def test_golden(gold, predicted, counts):
    assert score([gold], [predicted]).overall == Counts(*counts)


@settings(max_examples=examples(150))
@given(tag_pairs())
def test_equals_seqeval_and_sentences_sum_to_it(pair):
    found, theirs = score(*pair), report(*pair)
    overall = total(found.sentences)
    assert overall == found.overall == total(found.types.values())
    if found.types:
        micro = theirs["micro avg"]
        assert overall.precision == pytest.approx(micro["precision"])
        assert overall.recall == pytest.approx(micro["recall"])
        assert overall.f1 == pytest.approx(micro["f1-score"])
        assert overall.support == micro["support"]
    for name, counts in found.types.items():
        assert counts.f1 == pytest.approx(theirs[name]["f1-score"])
        assert counts.support == theirs[name]["support"]


# Types that seqeval can spell: it strips hyphens at both ends, and takes an empty type for "_".
TYPES = st.text("AB-_.äé", min_size=1, max_size=5).filter(
    lambda kind: kind.strip("-") == kind.strip() == kind
)


@settings(max_examples=examples(150))
@given(st.data())
def test_equals_seqeval_on_all_types_that_it_can_spell(data):
    kinds = data.draw(st.lists(TYPES, min_size=1, max_size=3))
    pair = data.draw(tag_pairs(st.sampled_from(["O", *(f"{p}-{kind}" for p in "BIES" for kind in kinds)])))
    found = score(*pair)
    assert "differs" not in found.signature
    theirs = report(*pair) if found.types else {"micro avg": {"f1-score": 0, "support": 0}}
    assert found.overall.f1 == pytest.approx(theirs["micro avg"]["f1-score"])
    assert found.overall.support == theirs["micro avg"]["support"]
    by_type = {name: (theirs[name]["f1-score"], theirs[name]["support"]) for name in found.types}
    assert by_type == {name: (pytest.approx(c.f1), c.support) for name, c in found.types.items()}
    # The F1 that chooses the epoch, of the bootstrap and of the pages is of the same entities.
    sums = np.array([[c.tp, c.fp, c.fn] for c in found.sentences]).sum(0)
    assert found.overall.f1 == count(*map(entities, pair)).f1 == pytest.approx(f1(sums))


@settings(max_examples=examples(100))
@given(tag_pairs())
def test_the_f1_that_chooses_the_epoch_is_the_score(pair):
    found = score(*pair)
    counted = entities(pair[0]), entities(pair[1])
    assert count(*counted) == found.overall
    assert count_types(*counted) == found.types


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_the_f1_of_the_bootstrap_is_that_of_the_score(tp, fp, fn):
    assert f1(np.array([tp, fp, fn])) == pytest.approx(Counts(tp, fp, fn).f1)


def test_types_count_as_they_are_spelled():
    """seqeval takes all three for LOC; the signature says that it counts otherwise."""
    gold, predicted = [["S-LOC-", "S-LOC", "S--LOC"]], [["S-LOC", "S-LOC", "S--LOC"]]
    found = score(gold, predicted)
    assert found.types == {"-LOC": Counts(1, 0, 0), "LOC": Counts(1, 1, 0), "LOC-": Counts(0, 0, 1)}
    assert (
        found.overall == found.sentences[0] == count(entities(gold), entities(predicted)) == Counts(2, 1, 1)
    )
    assert report(gold, predicted)["micro avg"]["f1-score"] == 1
    assert re.search(r"\|seqeval:1\.[0-9.]+ differs\|", found.signature)


@settings(max_examples=examples(50))
@given(tag_pairs())
def test_groups_part_the_types(pair):
    found = score(*pair, {"NE": ".NAM", "NM": ".NOM"})
    assert found.group("NE") + found.group("NM") == found.overall
    assert found.group("NM") == found.types.get("PER.NOM", Counts())


def test_group_leaves_the_other_types_out():
    found = score([["S-PER.NAM", "S-PER.NOM"]], [["S-PER.NAM", "S-LOC.NAM"]], {"NE": ".NAM", "NM": ".NOM"})
    assert found.group("NE") == Counts(tp=1, fp=1)
    assert found.group("NM") == Counts(fn=1)


def test_round_trip_through_json():
    found = score([["S-X", "O"], ["S-Y"]], [["S-X", "S-Y"], ["O"]], {"all": "X"}, {"seed": 3})
    value = json.loads(json.dumps(found.to_json()))
    assert Score.from_json(value) == found
    assert value["overall"]["f1"] == pytest.approx(0.5)
    assert value["types"]["Y"] == {
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "support": 1,
        "tp": 0,
        "fp": 1,
        "fn": 1,
    }


def test_signature_is_one_line_with_all_facts():
    signature = score([["O"]], [["O"]], about={"inputs": "words", "seed": 7}).signature
    assert signature.startswith("scheme:IOBES|mode:strict|average:micro|seqeval:1.")
    assert "differs" not in signature
    assert signature.endswith("|inputs:words|seed:7")
    assert "\n" not in signature


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="differ in their number of sentences or tokens"):
        score([["O", "O"]], [["O"]])
    for tag in ("X-PER", "U-PER", "BPER", "B-", "O-PER", ""):
        with pytest.raises(ValueError, match=f"found tag '{tag}', expected O or one of B-TYPE, E-TYPE"):
            score([["O"]], [[tag]])
