"""Label-smoothed cross entropy with little memory. Pure torch, no I/O."""

from typing import Any

import torch
from torch import Tensor

# Rows of logits per step: few enough for the processor's cache.
_ROWS = 128


def label_smoothed_loss(
    logits: Tensor, target: Tensor, epsilon: float, padding: int
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross entropy and plain negative log-likelihood, each summed over the rows.

    With V pieces, p = softmax(logits) and e = epsilon / (V - 1), the loss of a row is
    -(1 - epsilon - e) log p[target] - e sum(log p): the numbers of fairseq's ``label_smoothed_nll_loss``.
    fairseq's function makes half a dozen float32 tensors as large as all logits, and on a CPU the operating
    system's work for so much fresh memory costs more than the arithmetic (133 against 48 ms for 3,200
    rows of 4,080 pieces, a quarter of a training step).

    :param logits: of any floating type; the sums are accumulated in float64. *Shape:* (rows, V)
    :param target: the reference piece of each row. *Shape:* (rows,)
    :param padding: rows with this target have no loss.
    :returns: the loss, and the negative log-likelihood, which has no gradient. *Shape:* ()
    """
    loss, likelihood = _SmoothedLoss.apply(logits, target, epsilon, padding)  # type: ignore[no-untyped-call]
    return loss, likelihood


class _SmoothedLoss(torch.autograd.Function):
    """The loss and, at the same time, its gradient p - (1 - epsilon - e) onehot - e for each row."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, epsilon: float, padding: int
    ) -> tuple[Tensor, Tensor]:
        """See :func:`label_smoothed_loss`."""
        each = epsilon / (logits.shape[1] - 1)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        loss, nll = torch.zeros(2, dtype=torch.float64, device=logits.device)
        size = _ROWS if logits.device.type == "cpu" else max(len(logits), 1)
        for start in range(0, len(logits), size):
            part = slice(start, start + size)
            # shape: (rows of the part, V); padding weighs nothing
            logs = torch.log_softmax(logits[part], -1, dtype=torch.float32)
            weight = target[part, None].ne(padding).float()
            picked = logs.gather(1, target[part, None])
            nll -= (picked * weight).sum()
            loss -= ((1 - epsilon - each) * picked * weight + each * logs.sum(1, keepdim=True) * weight).sum()
            if gradient is not None:
                slope = logs.exp_().sub_(each)
                slope.scatter_add_(1, target[part, None], torch.full_like(picked, epsilon + each - 1))
                gradient[part] = slope.mul_(weight)
        ctx.gradient = gradient
        return loss.float(), nll.float()

    @staticmethod
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> Any:
        """Apply the chain rule; the negative log-likelihood has no gradient."""
        # In place: the tensor is as large as all logits, and backward runs once.
        return ctx.gradient.mul_(loss_gradient.to(ctx.gradient.dtype)), None, None, None
