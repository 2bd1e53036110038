"""The A of eq. 5: the translator's, or what stands in its place to learn what the translator's is worth."""

from collections.abc import Callable

import numpy as np

from backattn.common.errors import MissingError
from backattn.features.word_alignment_io import Links, Tokens, read_linked_pairs, spelled
from backattn.recipe import TransferRecipe, data_path
from backattn.translation.attention_merging import Array, token_attention

# The m source and the n English tokens, and the translator's A of shape (m + 1, n + 1), EOS last on both
# sides -> A as back attention wants it, of shape (m, n), float32.
TransferAttention = Callable[[Tokens, Tokens, Array], Array]


def transfer_attention(recipe: TransferRecipe) -> TransferAttention:
    """A as back attention wants it.

    The EOS policy speaks of the translator's attention alone: what stands in its place knows no EOS.
    ``normalise`` holds for all.

    :param recipe: ``attention``, ``links``, ``eos`` and ``normalise`` of the ``[transfer]`` table.
    :raises MissingError, CorpusError: the files of links are not there, or not what the recipe says.
    """
    if recipe.attention == "translator":
        return lambda source, english, whole: token_attention(
            whole, eos=recipe.eos, normalise=recipe.normalise
        )
    instead = _instead(recipe)

    def attend(source: Tokens, english: Tokens, whole: Array) -> Array:
        without_eos = np.pad(instead(source, english), ((0, 1), (0, 1)))
        return token_attention(without_eos, eos="drop", normalise=recipe.normalise)

    return attend


def _instead(recipe: TransferRecipe) -> Callable[[Tokens, Tokens], Array]:
    if recipe.attention == "uniform":
        return lambda source, english: uniform(len(source), len(english))
    if recipe.attention == "diagonal":
        return lambda source, english: diagonal(len(source), len(english))
    assert recipe.links is not None  # as the recipe was checked to have
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
        return of_links(found, len(source), len(english))

    return linked


def of_links(links: Links, m: int, n: int) -> Array:
    """Each English token looks at those that it is linked with, in equal parts; at nothing where it has none.

    :return: columns that sum to 1, or to 0. *Shape:* (m, n), float32
    """
    linked = np.zeros((m, n), np.float32)
    for j, i in links:
        linked[j, i] = 1
    looked: Array = linked / linked.sum(0).clip(min=1)
    return looked


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
