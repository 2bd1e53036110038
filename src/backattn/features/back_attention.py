"""Compute the transfer vectors T = A R from the attention A and the English states R."""

from torch import Tensor


def back_attention(attention: Tensor, states: Tensor) -> Tensor:
    """Multiply the attention with the English states: ``T = A R`` (eq. 5).

    Row j of T is the sum over the English tokens i of ``A[j, i] R[i]``: the English states, weighted by how
    much each English token attended to source token j. The product accumulates in float32 whatever the
    inputs are stored in.

    :param attention: A, token-level attention; column i is the attention of English token i over the source
        tokens (eq. 2). *Shape:* (m, n)
    :param states: R, the English tagger's BiLSTM outputs (eq. 4). *Shape:* (n, d)
    :return: T; zeros for an empty translation. *Shape:* (m, d), float32
    :raises ValueError: the shapes do not fit.
    """
    if attention.ndim != 2 or states.ndim != 2 or attention.shape[1] != states.shape[0]:
        raise ValueError(
            f"A of shape {tuple(attention.shape)} and R of shape {tuple(states.shape)}: "
            "expected (m, n) and (n, d)"
        )
    return attention.float() @ states.float()  # shape: (m, d)
