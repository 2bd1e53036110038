"""The A of eq. 5: the translator's, or what stands in its place to learn what the translator's is worth."""

import numpy as np

from backattn.features.translation.pieces import Array, token_attention
from backattn.recipe import TransferRecipe


def transfer_attention(whole: Array, recipe: TransferRecipe) -> Array:
    """A as back attention wants it.

    The EOS policy speaks of the translator's attention alone: what stands in its place knows no EOS.
    ``normalise`` holds for all.

    :param whole: the translator's, token-level, EOS last on both sides. *Shape:* (m + 1, n + 1)
    :param recipe: ``attention``, ``eos`` and ``normalise`` of the ``[transfer]`` table.
    :return: *Shape:* (m, n), float32
    """
    if recipe.attention == "translator":
        return token_attention(whole, eos=recipe.eos, normalise=recipe.normalise)
    make = {"uniform": uniform, "diagonal": diagonal}[recipe.attention]
    rows, columns = whole.shape
    without_eos = np.pad(make(rows - 1, columns - 1), ((0, 1), (0, 1)))
    return token_attention(without_eos, eos="drop", normalise=recipe.normalise)


def uniform(m: int, n: int) -> Array:
    """``A[j, i] = 1 / m``: every English token looks everywhere. *Shape:* (m, n), m >= 1, float32"""
    return np.full((m, n), 1 / m, np.float32)


def diagonal(m: int, n: int) -> Array:
    """Both sentences run at one pace.

    Laid on the source, English token i covers the stretch from ``i m / n`` to ``(i + 1) m / n``, and looks
    at each source token in proportion to how much of that lies on it::

        A[j, i] = n / m * max(0, min(j + 1, (i + 1) m / n) - max(j, i m / n))

    So each column sums to 1, about ``(i + 0.5) m / n``; each row sums to ``n / m``; m = n gives the identity.

    :return: *Shape:* (m, n), m >= 1, float32
    """
    # In steps of 1 / n of a source token all borders are whole numbers, so nothing is rounded before the end.
    source, english = np.arange(m)[:, None] * n, np.arange(n)[None, :] * m
    overlap = np.minimum(source + n, english + m) - np.maximum(source, english)
    covered: Array = (overlap.clip(min=0) / m).astype(np.float32)
    return covered
