"""Test the significance of a difference: a paired bootstrap over test sentences and seeds.

Both systems have tagged the same sentences under the same seeds. A resample draws sentences with
replacement, and seeds with replacement, the same ones for both systems, so what makes a sentence hard
for both does not blur their difference (Koehn 2004; seeds as a second level, which sacrebleu and scipy lack).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# With 2,000 an interval's end moves by 0.1 points from one seed of the generator to the next.
RESAMPLES = 10_000
# Seed of the generator: a report of the same runs gives the same intervals.
SEED = 1
LEVEL = 0.95
# Resamples whose draws are held at once; fewer, if they would draw more than _DRAWS sentences together.
_CHUNK = 250
_DRAWS = 50_000_000
# All rows of a table use the same draws, which are cached: 20 KB a sentence.
_CACHED = RESAMPLES // _CHUNK
_MOST_CACHED = 5_000  # sentences


@dataclass(frozen=True)
class Difference:
    """F1 of a system minus F1 of its base, each the mean over the seeds; in [-1, 1].

    :param low, high: borders of the 95 % interval (percentiles of the resamples).
    :param p: two-sided: twice the share of resamples in which the difference has the other sign.
    :param seeds: seeds that both have; the difference is over these only.
    """

    value: float
    low: float
    high: float
    p: float
    seeds: tuple[int, ...]


def f1(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Compute F1 from (tp, fp, fn) in the last axis; 0 without true positives. *Shape:* (..., 3) -> (...)"""
    doubled = 2.0 * counts[..., 0]
    whole = doubled + counts[..., 1] + counts[..., 2]
    scores: NDArray[np.float64] = np.divide(doubled, whole, out=np.zeros_like(doubled), where=whole > 0)
    return scores


def paired_bootstrap(
    base: NDArray[np.int64],
    system: NDArray[np.int64],
    *,
    seeds: tuple[int, ...],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """Compute the difference of two systems, its interval and p.

    :param base, system: tp, fp, fn of each sentence under each seed. *Shape:* (seeds, sentences, 3)
    :param seeds: the names of the seeds, in the order of the first axis.
    :raises ValueError: the two differ in shape, or have no seed or sentence.
    """
    if base.shape != system.shape or base.shape[0] != len(seeds) or not base.size:
        raise ValueError(f"counts of shape {base.shape} and {system.shape} for {len(seeds)} seeds")
    value = float((f1(system.sum(1)) - f1(base.sum(1))).mean())
    drawn = _resampled_differences(base, system, resamples, seed)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # The observed sample counts as one more resample, so that p is never 0 (as in sacrebleu).
    tail = (1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))) / (1 + resamples)
    return Difference(value, float(low), float(high), min(1.0, 2 * tail), seeds)


def intervals(
    counts: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float64]:
    """Compute the 95 % interval of F1 of several counts of the same sentences, each alone.

    :param counts: tp, fp, fn of each sentence. *Shape:* (k, sentences, 3)
    :return: the two borders of each. *Shape:* (k, 2)
    """
    systems, sentences, _ = counts.shape
    # shape: (sentences, k * 3)
    flat = counts.transpose(1, 0, 2).reshape(sentences, -1).astype(np.float64)
    parts = []
    for start, size in _chunks(resamples, sentences):
        weights = _weights(seed, start, size, sentences)
        parts.append(f1((weights.astype(np.float64) @ flat).reshape(size, systems, 3)))
    borders: NDArray[np.float64] = np.quantile(
        np.concatenate(parts), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0
    )
    return borders.T


def _resampled_differences(
    base: NDArray[np.int64], system: NDArray[np.int64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Compute the difference in each resample. *Shape:* (resamples,)"""
    count, sentences, _ = base.shape
    draw_seeds = np.random.default_rng(seed)
    weights_of = _cached_weights if sentences <= _MOST_CACHED else _weights
    # shape: (sentences, 2 * seeds * 3)
    whole = np.stack([base, system]).transpose(2, 0, 1, 3).reshape(sentences, -1)
    # Only floats have a fast matrix product; integers below 2**24 are exact in float32.
    kind: type[np.floating[Any]] = np.float32 if sentences * int(whole.max()) < 2**24 else np.float64
    flat: NDArray[Any] = whole.astype(kind)
    parts = []
    for start, size in _chunks(resamples, sentences):
        weights = weights_of(seed, start, size, sentences)
        scores = f1((weights.astype(kind) @ flat).reshape(size, 2, count, 3).astype(np.float64))
        # shape: (size, seeds)
        differences = scores[:, 1] - scores[:, 0]
        chosen = draw_seeds.integers(count, size=(size, count))
        parts.append(np.take_along_axis(differences, chosen, axis=1).mean(1))
    return np.concatenate(parts)


def _chunks(resamples: int, sentences: int) -> Iterator[tuple[int, int]]:
    """Yield where each chunk of resamples begins, and its size."""
    most = max(1, min(_CHUNK, _DRAWS // sentences))
    for start in range(0, resamples, most):
        yield start, min(most, resamples - start)


def _weights(seed: int, start: int, size: int, sentences: int) -> NDArray[np.uint16]:
    """Draw resamples: how often each contains each sentence. *Shape:* (size, sentences)"""
    drawn = np.random.default_rng([seed, start]).integers(sentences, size=(size, sentences))
    drawn += np.arange(size)[:, None] * sentences
    counts = np.bincount(drawn.reshape(-1), minlength=size * sentences).reshape(size, sentences)
    # One sentence is never drawn 65,536 times.
    return counts.astype(np.uint16)


_cached_weights = lru_cache(maxsize=_CACHED)(_weights)
