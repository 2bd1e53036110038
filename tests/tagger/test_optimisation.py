"""The step against torch's own optimiser; the annealing as a table."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from backattn.tagger.optimisation import Annealing, sgd_step


def make_model(sparse: bool) -> nn.Module:
    torch.manual_seed(3)
    # In double precision, so that the order of sums, which is the processor's own, is no matter.
    return nn.Sequential(nn.Embedding(11, 4, sparse=sparse), nn.Linear(4, 3)).double()


@pytest.mark.parametrize("clip_norm", [0.05, 100.0, 0])
@pytest.mark.parametrize("sparse", [True, False])
def test_equals_torch_sgd_with_clipping(sparse, clip_norm):
    ours, theirs = make_model(sparse), make_model(False)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.3)
    words = torch.tensor([1, 4, 4, 4, 9])  # a word that comes three times is one row
    for _ in range(4):
        for model in (ours, theirs):
            model(words).square().sum().backward()
        sgd_step(ours.parameters(), rate=0.3, clip_norm=clip_norm)
        if clip_norm:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        assert all(parameter.grad is None for parameter in ours.parameters())
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def test_a_parameter_without_gradient_stays():
    model = make_model(True)
    before = model[0].weight.clone()
    model[1](torch.ones(2, 4, dtype=torch.float64)).sum().backward()
    sgd_step(model.parameters(), rate=0.1, clip_norm=5)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("losses", "rates"),
    [
        ([5, 4, 3, 2, 1], [1, 1, 1, 1, 1]),
        ([5, 5, 5, 5, 5], [1, 1, 1, 0.5, 0.5]),  # the first 5 is a fall; three more are not
        ([5, 6, 4, 6, 6, 6], [1, 1, 1, 1, 1, 0.5]),
        ([5, 6, 6, 6, 6, 6, 6], [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
    ],
)
def test_annealing(losses, rates):
    state, found = Annealing(1.0), []
    for loss in losses:
        state = state.after(loss, patience=3, factor=0.5)
        found.append(state.rate)
    assert found == rates


@given(st.lists(st.integers(0, 8), max_size=40), st.integers(1, 4))
def test_annealing_is_that_of_section_3_2_counted_by_hand(losses, patience):
    """So many epochs in a row whose loss is above none before; each row of them anneals once."""
    state, rate, last = Annealing(1.0), 1.0, -1
    for epoch, loss in enumerate(losses):
        fell = all(loss < before for before in losses[:epoch])
        if not fell and epoch - last == patience:
            rate *= 0.5
        if fell or epoch - last == patience:
            last = epoch
        state = state.after(loss, patience=patience, factor=0.5)
        assert state.rate == rate
