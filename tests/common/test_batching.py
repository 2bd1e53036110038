"""Batches: every sequence once, the padding paid for, nothing over the limits but a sequence alone."""

from hypothesis import given
from hypothesis import strategies as st

from backattn.common.batching import batches


def test_equal_lengths_keep_their_order_and_both_limits_hold() -> None:
    lengths = [2, 9, 2, 3, 2, 2]
    assert list(batches(lengths, 6)) == [[1], [3, 0], [2, 4, 5]]
    assert list(batches(lengths, 6, 2)) == [[1], [3, 0], [2, 4], [5]]
    assert list(batches([], 6)) == []


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 500), st.none() | st.integers(1, 50))
def test_a_batch_is_cut_only_where_the_next_sequence_would_be_too_much(
    lengths: list[int], max_padded: int, max_sequences: int | None
) -> None:
    cut = list(batches(lengths, max_padded, max_sequences))
    assert sorted(position for batch in cut for position in batch) == list(range(len(lengths)))
    for number, batch in enumerate(cut):
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= max_padded
        assert max_sequences is None or len(batch) <= max_sequences
        if number + 1 < len(cut):
            assert len(batch) == max_sequences or longest * (len(batch) + 1) > max_padded


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 90)), max_size=60), st.integers(1, 300))
def test_characters_bound_a_batch_as_tokens_do(sizes: list[tuple[int, int]], most: int) -> None:
    lengths, characters = [own[0] for own in sizes], [own[1] for own in sizes]
    cut = list(batches(lengths, 40, characters=characters, max_characters=most))
    order = [position for batch in cut for position in batch]
    assert order == [position for batch in batches(lengths, 40) for position in batch]  # sorted as without
    for number, batch in enumerate(cut):
        widest, longest = max(characters[i] for i in batch), lengths[batch[0]]
        assert len(batch) == 1 or (widest * len(batch) <= most and longest * len(batch) <= 40)
        if number + 1 < len(cut):  # and cut where the next sequence would be too much of one of them
            widest = max(widest, characters[cut[number + 1][0]])
            assert widest * (len(batch) + 1) > most or longest * (len(batch) + 1) > 40
