"""The bootstrap against a loop, and what must hold of any interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import draw_counts

from backattn.report.significance import f1, intervals, paired_bootstrap


def loop_f1(counts: list) -> float:
    tp, fp, fn = (sum(int(row[i]) for row in counts) for i in range(3))
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0


def loop_bootstrap(base: np.ndarray, system: np.ndarray, resamples: int, seed: int) -> list[float]:
    """The same draws, one resample, one seed and one sentence at a time."""
    seeds, sentences, _ = base.shape
    draw_seeds = np.random.default_rng(seed)
    found = []
    for number in range(resamples):
        if number % 250 == 0:  # a generator for so many, which all rows of a table share
            draw_sentences = np.random.default_rng([seed, number])
        drawn = [int(i) for i in draw_sentences.integers(sentences, size=sentences)]
        chosen = [int(k) for k in draw_seeds.integers(seeds, size=seeds)]
        differences = [
            loop_f1([system[k][i] for i in drawn]) - loop_f1([base[k][i] for i in drawn]) for k in chosen
        ]
        found.append(sum(differences) / seeds)
    return found


@pytest.mark.parametrize(("seeds", "sentences", "resamples"), [(1, 7, 40), (2, 5, 60), (3, 11, 600)])
def test_the_vectorised_bootstrap_is_the_loop(seeds: int, sentences: int, resamples: int) -> None:
    base = np.stack([draw_counts(0.5, s, sentences) for s in range(seeds)])
    system = np.stack([draw_counts(0.7, s + 9, sentences) for s in range(seeds)])
    names = tuple(range(seeds))
    found = paired_bootstrap(base, system, seeds=names, resamples=resamples, seed=5)
    drawn = loop_bootstrap(base, system, resamples, 5)
    below, above = sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn)
    expected = sum(loop_f1(system[k]) - loop_f1(base[k]) for k in names) / seeds
    assert found.value == pytest.approx(expected)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert found.p == pytest.approx(min(1, 2 * (1 + min(below, above)) / (1 + resamples)))


@pytest.mark.parametrize(("systems", "sentences", "resamples"), [(1, 7, 40), (3, 5, 60), (2, 11, 600)])
def test_the_interval_of_one_system_is_the_loop(systems: int, sentences: int, resamples: int) -> None:
    counts = np.stack([draw_counts(0.2 + 0.2 * number, number, sentences) for number in range(systems)])
    found = intervals(counts, resamples=resamples, seed=5)
    assert found.shape == (systems, 2)
    for system, borders in zip(counts, found, strict=True):
        drawn = loop_bootstrap(np.zeros_like(system)[None], system[None], resamples, 5)
        assert list(borders) == pytest.approx(list(np.percentile(drawn, [2.5, 97.5])))


def test_equal_runs_differ_by_nothing() -> None:
    counts = np.stack([draw_counts(0.6, s) for s in range(3)])
    found = paired_bootstrap(counts, counts, seeds=(1, 2, 3))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_seeds_alone_make_an_interval_around_zero() -> None:
    one = np.stack([draw_counts(0.6, s) for s in range(4)])
    found = paired_bootstrap(one, one[[1, 0, 3, 2]], seeds=(1, 2, 3, 4))
    assert found.low < 0 < found.high
    assert found.value == pytest.approx(0)
    assert found.p > 0.5


def test_a_clearly_better_system_is_clearly_better() -> None:
    base = np.stack([draw_counts(0.5, s) for s in range(3)])
    system = np.stack([draw_counts(0.7, s) for s in range(3)])
    found = paired_bootstrap(base, system, seeds=(1, 2, 3))
    assert 0 < found.low < found.value < found.high
    assert found.p < 0.01
    mirrored = paired_bootstrap(system, base, seeds=(1, 2, 3))
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    assert found == paired_bootstrap(base, system, seeds=(1, 2, 3))  # the same draws every time


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Two systems of known skill on fresh test sets: 95 % intervals miss in about 5 % of the trials."""
    rng = np.random.default_rng(8)
    gold, misses, trials = np.full(400, 2), 0, 150
    for _ in range(trials):
        pair = []
        for skill in (0.6, 0.66):
            tp = rng.binomial(gold, skill)
            pair.append(np.stack([tp, np.zeros_like(tp), gold - tp], axis=1)[None])
        found = paired_bootstrap(pair[0], pair[1], seeds=(1,), resamples=300)
        truth = 2 * 0.66 / 1.66 - 2 * 0.6 / 1.6
        misses += not found.low <= truth <= found.high
    assert misses / trials < 0.11


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=6))
def test_f1_is_the_textbook_formula(rows: list[tuple[int, int, int]]) -> None:
    assert f1(np.array(rows).sum(0)) == pytest.approx(loop_f1(rows))


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"counts of shape \(1, 4, 3\) and \(1, 5, 3\) for 1 seeds"):
        paired_bootstrap(np.zeros((1, 4, 3), int), np.zeros((1, 5, 3), int), seeds=(1,))
