"""Reverse the sentences of a padded batch, each within its own length, and run LSTMs over them.

A padded batch lets a CPU run a one-direction LSTM as a whole (oneDNN); a packed one is run step by step.
Padding behind a sentence changes no state before it, so the backward direction reads each sentence reversed
within its own length.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def reversal_indices(lengths: Tensor, m: int) -> Tensor:
    """Compute the indices that reverse each sentence and leave its padding in place. *Shape:* (b, m)"""
    position = torch.arange(m, device=lengths.device)
    end = lengths.unsqueeze(1)
    return torch.where(position < end, end - 1 - position, position)


def gather_steps(values: Tensor, indices: Tensor) -> Tensor:
    """Reorder the tokens of each sentence by the indices (b, m). (b, m, w) -> (b, m, w)

    Whole rows are looked up, as word vectors are: three times as fast as ``gather``, forward and backward.
    """
    b, m, w = values.shape
    rows = indices + m * torch.arange(b, device=indices.device).unsqueeze(1)
    return functional.embedding(rows, values.reshape(b * m, w))


def run_reversed(lstm: nn.LSTM, inputs: Tensor, indices: Tensor) -> Tensor:
    """Run a one-direction LSTM over each sentence from its last token to its first. (b, m, w) -> (b, m, h)

    :param lstm: batch first.
    :param indices: of :func:`reversal_indices`. *Shape:* (b, m)
    """
    return gather_steps(lstm(gather_steps(inputs, indices))[0], indices)
