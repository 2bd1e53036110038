import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from backattn.training.translator.label_smoothing import label_smoothed_loss

PADDING = 1


def plain_loss(logits: Tensor, target: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The definition, row by row and piece by piece."""
    loss = nll = torch.zeros((), dtype=logits.dtype)
    for row, right in zip(logits, target.tolist(), strict=True):
        if right == PADDING:
            continue
        total = row.exp().sum().log()
        each = epsilon / (len(row) - 1)
        for piece, logit in enumerate(row):
            loss = loss - (1 - epsilon if piece == right else each) * (logit - total)
        nll = nll - (row[right] - total)
    return loss, nll


def example(rows: int, pieces: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, pieces, generator=generator)
    return logits, torch.randint(0, pieces, (rows,), generator=generator)


@given(rows=st.integers(1, 9), pieces=st.integers(2, 7), epsilon=st.sampled_from([0.0, 0.1, 0.3]))
def test_loss_and_gradient_equal_the_definition(rows: int, pieces: int, epsilon: float) -> None:
    logits, target = example(rows, pieces, seed=rows * 10 + pieces)
    exact = logits.double().requires_grad_()
    expected = plain_loss(exact, target, epsilon)
    if expected[0].requires_grad:
        expected[0].backward()
    lean = logits.clone().requires_grad_()
    loss, nll = label_smoothed_loss(lean, target, epsilon, PADDING)
    loss.backward()
    assert loss.item() == pytest.approx(expected[0].item(), rel=1e-5, abs=1e-6)
    assert nll.item() == pytest.approx(expected[1].item(), rel=1e-5, abs=1e-6)
    gradient = torch.zeros_like(exact) if exact.grad is None else exact.grad
    torch.testing.assert_close(lean.grad, gradient.float(), atol=1e-6, rtol=1e-5)


def test_it_is_fairseqs_own_loss_however_many_rows() -> None:
    fairseq = pytest.importorskip("fairseq.criterions.label_smoothed_cross_entropy")
    logits, target = example(301, 53, seed=1)  # more rows than are taken at a time, and no multiple
    theirs, ours = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected = fairseq.label_smoothed_nll_loss(
        torch.log_softmax(theirs, -1), target, 0.1, ignore_index=PADDING
    )
    found = label_smoothed_loss(ours, target, 0.1, PADDING)
    torch.testing.assert_close(found, expected)
    (expected[0] / 7).backward()
    (found[0] / 7).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_reduced_precision_keeps_the_sums_exact() -> None:
    logits, target = example(300, 40, seed=2)
    rounded = logits.bfloat16()
    loss, nll = label_smoothed_loss(rounded, target, 0.1, PADDING)
    torch.testing.assert_close((loss, nll), label_smoothed_loss(rounded.float(), target, 0.1, PADDING))
    assert rounded.dtype is torch.bfloat16


def test_without_gradients_nothing_is_kept() -> None:
    logits, target = example(5, 4, seed=3)
    with torch.no_grad():
        loss, _ = label_smoothed_loss(logits, target, 0.1, PADDING)
    assert not loss.requires_grad
