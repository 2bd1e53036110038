"""The step against torch's own optimiser; the annealing as a table; the mean of the weights by hand."""

import pytest
import torch
from torch import nn

from backattn.tagger.optimisation import Annealing, EpochAverage, sgd_step


def make_model(sparse: bool) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Embedding(11, 4, sparse=sparse), nn.Linear(4, 3))


@pytest.mark.parametrize("clip_norm", [0.05, 100.0])
@pytest.mark.parametrize("sparse", [True, False])
def test_equals_torch_sgd_with_clipping(sparse, clip_norm):
    ours, theirs = make_model(sparse), make_model(False)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.3)
    words = torch.tensor([1, 4, 4, 4, 9])  # a word that comes three times is one row
    for _ in range(4):
        for model in (ours, theirs):
            model(words).square().sum().backward()
        sgd_step(ours.parameters(), rate=0.3, clip_norm=clip_norm)
        nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        assert all(parameter.grad is None for parameter in ours.parameters())
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_a_parameter_without_gradient_stays():
    model = make_model(True)
    before = model[0].weight.clone()
    model[1](torch.ones(2, 4)).sum().backward()
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


@pytest.mark.parametrize(
    ("epochs", "means"),
    [
        (2, [1, 1.5, 2.75, 5.375]),  # from the third on by half of the way
        (3, [1, 1.5, 7 / 3, 7 / 3 + (8 - 7 / 3) / 3]),
        (9, [1, 1.5, 7 / 3, 15 / 4]),  # as many as there are
    ],
)
def test_the_mean_over_epochs(epochs, means):
    weight = nn.Parameter(torch.full((2,), 9.0))
    average, found = EpochAverage({"weight": weight}, epochs), []
    for epoch, value in enumerate([1.0, 2.0, 4.0, 8.0], 1):
        with torch.no_grad():
            weight.fill_(value)
        average.add(epoch)
        with average.in_place():
            found.append(weight.tolist()[1])
        assert weight.tolist() == [value, value]
    assert found == pytest.approx(means)


def test_the_weights_come_back_whatever_happens():
    weight = nn.Parameter(torch.tensor([0.1, 0.7]))
    average, before = EpochAverage({"weight": weight}, 5), weight.detach().clone()
    with torch.no_grad():
        average.tensors["weight"] += 1

    def interrupted():
        with average.in_place():
            assert not torch.equal(weight, before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(weight, before)


def test_of_one_epoch_nothing_is_kept():
    weight = nn.Parameter(torch.ones(2))
    average = EpochAverage({"weight": weight}, 1)
    average.add(1)
    with average.in_place():
        assert weight.tolist() == [1, 1]
    assert not average.tensors
