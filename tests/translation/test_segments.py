"""Batches: every segment once, the padding paid for, nothing over the budget but a segment alone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from backattn.translation.segments import Segment, make_batches


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=400), st.integers(1, 3000), st.integers(1, 300))
def test_batches_hold_every_segment_within_the_budget(lengths: list[int], budget: int, most: int) -> None:
    segments = [Segment((f"t{i}",), (i,) * length, (0,) * length) for i, length in enumerate(lengths)]
    batches = list(make_batches(segments, budget, most))
    assert sorted(s.pieces[0] for batch in batches for s in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = max(len(segment.pieces) + 1 for segment in batch) * len(batch)
        assert len(batch) == 1 or padded <= budget
        assert len(batch) <= most
    padding = sum(max(map(len, batch)) * len(batch) - sum(map(len, batch)) for batch in batches)
    assert padding <= 41 * most  # sorted: the lengths of all batches together fall only once
