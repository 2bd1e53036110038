"""The CRF against a sum over all tag sequences, and against torchcrf."""

import math
from collections import defaultdict
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backattn.corpus.spans import Span, from_spans, spans
from backattn.corpus.tags import check_bioes
from backattn.tagger.crf import BioesCrf
from bounds import bounded
from examples import examples

TAGS = ("O", "B-X", "I-X", "E-X", "S-X")
LENGTHS = [3, 1, 4, 2]


def make_crf(seed: int = 0, tags: tuple[str, ...] = TAGS) -> BioesCrf:
    generator = torch.Generator().manual_seed(seed)
    crf = BioesCrf(tags)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return crf


def make_emissions(lengths: list[int], k: int = len(TAGS), seed: int = 1) -> Tensor:
    return torch.randn(len(lengths), max(lengths), k, generator=torch.Generator().manual_seed(seed))


def path_score(crf: BioesCrf, emissions: Tensor, path: tuple[int, ...]) -> float:
    """Score of one path of one sentence, written out."""
    chain = crf.chain
    total = chain.start_transitions[path[0]] + chain.end_transitions[path[-1]]
    for i, tag in enumerate(path):
        total = total + emissions[i, tag]
        if i:
            total = total + chain.transitions[path[i - 1], tag]
    return float(total.detach())


def mask_of(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


class TestLogLikelihood:
    def test_equals_brute_force(self):
        crf, emissions = make_crf(), make_emissions(LENGTHS)
        gold = torch.randint(0, len(TAGS), (len(LENGTHS), max(LENGTHS)))
        found = crf.log_likelihood(emissions, gold, torch.tensor(LENGTHS))
        for row, length in enumerate(LENGTHS):
            scores = torch.tensor(
                [path_score(crf, emissions[row], path) for path in product(range(len(TAGS)), repeat=length)]
            )
            expected = path_score(crf, emissions[row], tuple(gold[row, :length].tolist())) - scores.logsumexp(
                0
            )
            assert float(found[row].detach()) == pytest.approx(float(expected.detach()), abs=1e-4)

    def test_equals_torchcrf_with_gradients(self):
        crf, lengths = make_crf(), [7, 1, 12, 5]
        emissions = make_emissions(lengths).requires_grad_()
        gold = torch.randint(0, len(TAGS), (4, 12))
        ours = crf.log_likelihood(emissions, gold, torch.tensor(lengths))
        theirs = crf.chain(emissions, gold, mask_of(lengths), reduction="none")
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        inputs = [emissions, *crf.parameters()]
        for a, b in zip(
            torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(theirs.sum(), inputs), strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)

    @pytest.mark.parametrize(("length", "scale"), [(1, 5), (400, 5), (30, 100)])
    def test_stays_in_range(self, length, scale):
        """Long sentences, and scores that stand out by hundreds; torchcrf adds logarithms, in float64."""
        crf, lengths = make_crf().double(), torch.tensor([length, 1])
        emissions = (scale * make_emissions([length, 1])).requires_grad_()
        gold = torch.randint(0, len(TAGS), (2, length))
        ours = crf.float().log_likelihood(emissions, gold, lengths)
        theirs = crf.double().chain(emissions.double(), gold, mask_of([length, 1]), reduction="none")
        torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=1e-5)
        found, expected = (torch.autograd.grad(x.sum(), emissions)[0] for x in (ours, theirs))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    def test_padding_says_nothing(self):
        crf, emissions = make_crf(), make_emissions(LENGTHS)
        gold = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.int64)
        noisy = torch.where(mask_of(LENGTHS).unsqueeze(2), emissions, 1e3)
        lengths = torch.tensor(LENGTHS)
        assert torch.equal(
            crf.log_likelihood(emissions, gold, lengths), crf.log_likelihood(noisy, gold, lengths)
        )
        assert torch.equal(crf.decode(emissions, lengths), crf.decode(noisy, lengths))


class TestDecode:
    def test_is_the_best_legal_path(self):
        crf, emissions = make_crf(), make_emissions(LENGTHS)
        found = crf.decode(emissions, torch.tensor(LENGTHS))
        for row, length in enumerate(LENGTHS):
            best = max(
                (path for path in product(range(len(TAGS)), repeat=length) if is_legal(path)),
                key=lambda path: path_score(crf, emissions[row], path),
            )
            assert tuple(found[row, :length].tolist()) == best
            assert not found[row, length:].any()

    def test_equals_torchcrf_when_everything_is_legal(self):
        crf, lengths = make_crf(), [7, 1, 12, 5]
        for legal in (crf.allowed, crf.allowed_first, crf.allowed_last):
            legal.fill_(True)
        emissions = make_emissions(lengths)
        found = crf.decode(emissions, torch.tensor(lengths))
        theirs = crf.chain.decode(emissions, mask_of(lengths))
        assert [row[:n].tolist() for row, n in zip(found, lengths, strict=True)] == theirs

    @settings(max_examples=examples(60))
    @given(
        lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
        types=st.integers(0, 3),
        seed=st.integers(0, 2**31),
    )
    def test_is_never_illegal(self, lengths, types, seed):
        tags = ("O", *(f"{prefix}-{kind}" for kind in "XYZ"[:types] for prefix in "BIES"))
        crf = make_crf(seed, tags)
        emissions = 5 * make_emissions(lengths, len(tags), seed)
        found = crf.decode(emissions, torch.tensor(lengths))
        for row, length in zip(found.tolist(), lengths, strict=True):
            check_bioes([tags[number] for number in row[:length]])


def is_legal(path: tuple[int, ...]) -> bool:
    try:
        check_bioes([TAGS[number] for number in path])
    except ValueError:
        return False
    return True


class TestSpanProbabilities:
    def expected(self, crf: BioesCrf, emissions: Tensor, length: int) -> dict[Span, float]:
        """Of every entity that any legal sequence has: its sequences' share, one sequence after the other."""
        total, of_entity = 0.0, defaultdict(float)
        for path in product(range(len(crf.tags)), repeat=length):
            tags = tuple(crf.tags[number] for number in path)
            try:
                entities = spans(tags)
            except ValueError:
                continue  # not legal
            weight = math.exp(path_score(crf, emissions, path))
            total += weight
            for entity in entities:
                of_entity[entity] += weight
        return {entity: weight / total for entity, weight in of_entity.items()}

    @pytest.mark.parametrize("tags", [TAGS, (*TAGS, "B-Y-", "I-Y-", "E-Y-", "S-Y-")], ids=["one", "two"])
    def test_equal_a_sum_over_all_legal_sequences(self, tags: tuple[str, ...]) -> None:
        """Of every possible entity, not of the best ones alone, in a batch of mixed lengths."""
        crf, lengths = make_crf(3, tags).double(), [4, 1, 3, 2]
        crf.tags = tags  # type: ignore[assignment]
        emissions = 2 * make_emissions(lengths, len(tags)).double()
        emissions[torch.arange(4) >= torch.tensor(lengths).unsqueeze(1)] = 1e3  # padding says nothing
        asked = 0
        expected = [self.expected(crf, emissions[row], length) for row, length in enumerate(lengths)]
        for number in range(max(map(len, expected))):
            # One entity of each sentence at a time: tags hold one entity at a place.
            chosen = [(row, *list(known.items())[number % len(known)]) for row, known in enumerate(expected)]
            gold = torch.zeros(4, 4, dtype=torch.int64)
            for row, entity, _ in chosen:
                own = from_spans([entity], lengths[row])
                gold[row, : lengths[row]] = torch.tensor([tags.index(tag) for tag in own])
            places = torch.tensor([(row, entity.start, entity.end - 1) for row, entity, _ in chosen])
            found = crf.span_probabilities(emissions, torch.tensor(lengths), gold, places)
            assert found.tolist() == pytest.approx([share for *_, share in chosen], abs=1e-9)
            asked += len(chosen)
        assert asked >= 40

    def test_sum_to_no_more_than_one_and_stay_in_range(self) -> None:
        """400 tokens, and scores that stand out by hundreds towards what is forbidden."""
        crf, lengths = make_crf(), torch.tensor([400, 30])
        emissions = 300 * make_emissions([400, 30])
        tags = crf.decode(emissions, lengths)
        places = [
            (row, s.start, s.end - 1)
            for row, length in enumerate(lengths.tolist())
            for s in spans([TAGS[number] for number in tags[row, :length].tolist()])
        ]
        found = crf.span_probabilities(emissions, lengths, tags, torch.tensor(places))
        assert len(places) > 100
        assert found.isfinite().all()
        assert ((found > 0) & (found <= 1)).all()
        assert float(found.median()) > 0.99

    def test_take_little_time_for_a_long_sentence(self) -> None:
        """A step for each of many tokens: the sums over their ways are no loop over torch's operations."""
        crf, lengths, tags = make_crf(), torch.tensor([50_000]), torch.full((1, 50_000), TAGS.index("S-X"))
        emissions = make_emissions([50_000])
        with bounded(4):
            found = crf.span_probabilities(
                emissions, lengths, tags, torch.tensor([[0, i, i] for i in (0, 9)])
            )
        again = crf.span_probabilities(
            emissions[:, :60], lengths.clamp(max=60), tags[:, :60], torch.tensor([[0, i, i] for i in (0, 9)])
        )
        torch.testing.assert_close(found, again, atol=1e-6, rtol=0)

    def test_many_sentences_are_computed_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        crf, lengths = make_crf(), torch.tensor(LENGTHS)
        emissions, tags = make_emissions(LENGTHS), torch.full((4, 4), TAGS.index("S-X"))
        places = torch.tensor([(row, i, i) for row, m in enumerate(LENGTHS) for i in range(m) if row != 1])
        whole = crf.span_probabilities(emissions, lengths, tags, places)
        monkeypatch.setattr("backattn.tagger.crf._MOST_PAIRS", 1)
        parts = crf.span_probabilities(emissions, lengths, tags, places.flip(0)).flip(0)
        torch.testing.assert_close(whole, parts, atol=1e-12, rtol=0)
        assert crf.span_probabilities(emissions, lengths, tags, places[:0]).shape == (0,)
