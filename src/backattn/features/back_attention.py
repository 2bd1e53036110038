"""The paper's one formula: transfer vectors are the English states, brought home by the attention."""

from torch import Tensor


def back_attention(attention: Tensor, states: Tensor) -> Tensor:
    """``T = A R`` (eq. 5): give each source token the English states, weighted by who looked at it.

    Row j of T is the sum over the English tokens i of ``A[j, i] R[i]``. The product accumulates in
    float32 whatever the inputs are stored in.

    :param attention: A, token-level attention; column i is where English token i looked (eq. 2).
        *Shape:* (m, n)
    :param states: R, the English tagger's BiLSTM outputs (eq. 4). *Shape:* (n, d)
    :return: T; zeros where there is no English token. *Shape:* (m, d), float32
    :raises ValueError: the shapes do not fit.
    """
    if attention.ndim != 2 or states.ndim != 2 or attention.shape[1] != states.shape[0]:
        raise ValueError(
            f"A of shape {tuple(attention.shape)} and R of shape {tuple(states.shape)}: "
            "expected (m, n) and (n, d)"
        )
    return attention.float() @ states.float()  # shape: (m, d)
