"""Plain stochastic gradient descent and its annealing, as in section 3.2."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

_EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True)
class Annealing:
    """State of the annealing of the learning rate.

    :param rate: learning rate of the next epoch.
    :param best_loss: lowest training loss so far.
    :param waited: epochs since then, or since the last annealing.
    """

    rate: float
    best_loss: float | None = None
    waited: int = 0

    def after(self, loss: float, *, patience: int, factor: float) -> "Annealing":
        """Return the state after an epoch; ``patience`` epochs without a lower loss multiply the rate."""
        if self.best_loss is None or loss < self.best_loss:
            return Annealing(self.rate, loss)
        if self.waited + 1 < patience:
            return Annealing(self.rate, self.best_loss, self.waited + 1)
        return Annealing(self.rate * factor, self.best_loss)


@torch.no_grad()
def sgd_step(parameters: Iterable[Parameter], *, rate: float, clip_norm: float) -> None:
    """Take one step down the gradient, shortened to ``clip_norm`` unless that is 0, and clear the gradients.

    Equal to ``clip_grad_norm_`` (or none) and ``torch.optim.SGD`` without momentum, and takes the sparse
    gradients of the word vectors: only the rows of the batch are read and written.
    """
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [_summed(parameter.grad) for parameter in learning if parameter.grad is not None]
    # shape: ()
    step = -rate * (_shortening(gradients, clip_norm) if clip_norm else learning[0].new_ones(()))
    for parameter, gradient in zip(learning, gradients, strict=True):
        if gradient.is_sparse:
            parameter.index_add_(0, gradient.indices()[0], gradient.values() * step)
        else:
            parameter.addcmul_(gradient, step)
        parameter.grad = None


def _shortening(gradients: Sequence[Tensor], clip_norm: float) -> Tensor:
    """The factor, at most 1, that brings the norm of all gradients together to ``clip_norm``. *Shape:* ()"""
    norm = torch.stack([torch.linalg.vector_norm(_values(gradient)) for gradient in gradients]).norm()
    shortening: Tensor = (clip_norm / (norm + _EPSILON)).clamp(max=1.0)
    return shortening


def _summed(gradient: Tensor) -> Tensor:
    """Sum the gradients of a row that occurs several times."""
    return gradient.coalesce() if gradient.is_sparse else gradient


def _values(gradient: Tensor) -> Tensor:
    return gradient.values() if gradient.is_sparse else gradient
