"""The CRF against a sum over all tag sequences, and against torchcrf."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backattn.corpus.tags import check_bioes
from backattn.tagger.crf import BioesCrf

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

    @settings(max_examples=60, deadline=None)
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
