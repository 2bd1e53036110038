"""Make the attention A of eq. 5: from the translator, or from a baseline to which it is compared."""

from collections.abc import Callable

import numpy as np

from backattn.common.errors import MissingError
from backattn.features.word_alignment_io import Links, Tokens, read_linked_pairs, spelled
from backattn.recipe import TransferRecipe, data_path
from backattn.translation.attention_merging import Array, token_attention

# Maps the m source tokens, the n English tokens, and the translator's A of shape (m + 1, n + 1), EOS last on
# both sides, to the A of eq. 5, of shape (m, n), float32.
TransferAttention = Callable[[Tokens, Tokens, Array], Array]


def transfer_attention(recipe: TransferRecipe) -> TransferAttention:
    """Choose how A is made, as the recipe's ``attention`` says.

    ``eos`` applies to the translator's attention alone, because the others have no EOS; ``normalise``
    applies to all.

    :param recipe: ``attention``, ``links``, ``eos`` and ``normalise`` of the ``[transfer]`` table.
    :raises MissingError: a file of links does not exist.
    :raises CorpusError: a file of links has another format than the recipe says.
    """
    if recipe.attention == "translator":
        return lambda source, english, whole: token_attention(
            whole, eos=recipe.eos, normalise=recipe.normalise
        )
    baseline = _baseline(recipe)

    def attend(source: Tokens, english: Tokens, whole: Array) -> Array:
        without_eos = np.pad(baseline(source, english), ((0, 1), (0, 1)))
        return token_attention(without_eos, eos="drop", normalise=recipe.normalise)

    return attend


def _baseline(recipe: TransferRecipe) -> Callable[[Tokens, Tokens], Array]:
    if recipe.attention == "uniform":
        return lambda source, english: uniform(len(source), len(english))
    if recipe.attention == "diagonal":
        return lambda source, english: diagonal(len(source), len(english))
    assert recipe.links is not None  # checked when the recipe was loaded
    path = data_path(recipe.links.path)
    pairs = read_linked_pairs(recipe.links, "transfer.links")
    links = {(pair.foreign, pair.english): pair.sure for pair in pairs}

    def linked(source: Tokens, english: Tokens) -> Array:
        found = links.get((spelled(source), spelled(english)))
        if found is None:
            raise MissingError(
                f"{path}: no such pair: {' '.join(source)!r} and its present translation; have an aligner "
                "link what `backattn pairs` prints now"
            )
        return links_attention(found, len(source), len(english))

    return linked


def links_attention(links: Links, m: int, n: int) -> Array:
    """Distribute the attention of each English token equally over the source tokens linked with it.

    :return: columns that sum to 1, or to 0 for an English token without links. *Shape:* (m, n), float32
    """
    linked = np.zeros((m, n), np.float32)
    for j, i in links:
        linked[j, i] = 1
    attention: Array = linked / linked.sum(0).clip(min=1)
    return attention


def uniform(m: int, n: int) -> Array:
    """Distribute the attention of each English token equally over all source tokens: ``A[j, i] = 1 / m``.

    :return: *Shape:* (m, n), m >= 1, float32
    """
    return np.full((m, n), 1 / m, np.float32)


def diagonal(m: int, n: int) -> Array:
    """Attend along the diagonal: translations in the same order, word by word.

    Scaled to the length of the source, English token i covers the interval from ``i m / n`` to
    ``(i + 1) m / n``, and attends to each source token in proportion to their overlap::

        A[j, i] = n / m * max(0, min(j + 1, (i + 1) m / n) - max(j, i m / n))

    So each column sums to 1, about ``(i + 0.5) m / n``; each row sums to ``n / m``; m = n gives the identity.

    :return: *Shape:* (m, n), m >= 1, float32
    """
    # In units of 1 / n of a source token all borders are integers, so nothing is rounded before the end.
    source, english = np.arange(m)[:, None] * n, np.arange(n)[None, :] * m
    overlap = np.minimum(source + n, english + m) - np.maximum(source, english)
    covered: Array = (overlap.clip(min=0) / m).astype(np.float32)
    return covered
