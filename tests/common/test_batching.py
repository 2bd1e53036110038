"""Batches: every item once, the padding paid for, nothing over the budget but an item alone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.common.batching import batches


@settings(deadline=None)
@given(st.lists(st.integers(2, 41), max_size=400), st.integers(1, 3000), st.integers(1, 300))
def test_batches_hold_every_item_within_the_budget(lengths: list[int], budget: int, most: int) -> None:
    found = list(batches(lengths, budget, most))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    longest = [max(lengths[i] for i in batch) for batch in found]
    for length, batch in zip(longest, found, strict=True):
        assert len(batch) == 1 or length * len(batch) <= budget
        assert len(batch) <= most
    padding = sum(length * len(batch) for length, batch in zip(longest, found, strict=True)) - sum(lengths)
    assert padding <= 41 * most  # sorted: the lengths of all batches together fall only once
