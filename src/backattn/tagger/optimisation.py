"""Plain stochastic gradient descent and its annealing, as in section 3.2, and a mean of the weights."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

_EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True)
class Annealing:
    """The learning rate, and how long the training loss has not fallen.

    :param rate: learning rate of the next epoch.
    :param best_loss: lowest training loss so far.
    :param waited: epochs since then, or since the last annealing.
    """

    rate: float
    best_loss: float | None = None
    waited: int = 0

    def after(self, loss: float, *, patience: int, factor: float) -> "Annealing":
        """The state after an epoch: ``patience`` epochs without a lower loss multiply the rate."""
        if self.best_loss is None or loss < self.best_loss:
            return Annealing(self.rate, loss)
        if self.waited + 1 < patience:
            return Annealing(self.rate, self.best_loss, self.waited + 1)
        return Annealing(self.rate * factor, self.best_loss)


class EpochAverage:
    """The mean of the weights over the last epochs, which predicts in their place (Izmailov et al. 2018,
    arXiv:1803.05407): at a learning rate that hardly falls the weights jump about, and their mean does not.

    After epoch e it moves towards the weights by 1 / min(e, epochs): at first it is the mean of them all,
    later those of long ago fade. Of one epoch it is the weights themselves, and nothing is kept.

    :param learning: the parameters, by name.
    """

    def __init__(self, learning: Mapping[str, Parameter], epochs: int) -> None:
        self._learning, self._epochs = learning, epochs
        self.tensors = {name: p.detach().clone() for name, p in learning.items()} if epochs > 1 else {}

    @torch.no_grad()
    def add(self, epoch: int) -> None:
        """Take in the weights after this epoch, counted from 1."""
        for name, mean in self.tensors.items():
            mean.lerp_(self._learning[name], 1 / min(epoch, self._epochs))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the mean stands in the place of the weights."""
        weights = {name: self._learning[name].detach().clone() for name in self.tensors}
        self._fill(self.tensors)
        try:
            yield
        finally:
            self._fill(weights)

    @torch.no_grad()
    def _fill(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._learning[name].copy_(tensor)


@torch.no_grad()
def sgd_step(parameters: Iterable[Parameter], *, rate: float, clip_norm: float) -> None:
    """Take one step down the gradient, shortened to ``clip_norm``, and clear the gradients.

    Equal to ``clip_grad_norm_`` and ``torch.optim.SGD`` without momentum, and takes the sparse gradients of
    the word vectors: only the rows of the batch are read and written.
    """
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [_summed(parameter.grad) for parameter in learning if parameter.grad is not None]
    # shape: ()
    norm = torch.stack([torch.linalg.vector_norm(_values(gradient)) for gradient in gradients]).norm()
    step = -rate * (clip_norm / (norm + _EPSILON)).clamp(max=1.0)
    for parameter, gradient in zip(learning, gradients, strict=True):
        if gradient.is_sparse:
            parameter.index_add_(0, gradient.indices()[0], gradient.values() * step)
        else:
            parameter.addcmul_(gradient, step)
        parameter.grad = None


def _summed(gradient: Tensor) -> Tensor:
    """A row that the batch has several times, once."""
    return gradient.coalesce() if gradient.is_sparse else gradient


def _values(gradient: Tensor) -> Tensor:
    return gradient.values() if gradient.is_sparse else gradient
