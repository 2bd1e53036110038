"""Group sentences of different lengths into batches with little padding that fit into memory."""

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield batches of positions, longest sentences first.

    :param lengths: lengths of all sentences, in the unit of ``most`` (tokens, pieces, characters).
    :param most: largest size of a batch with its padding: its greatest length times its number of sentences.
        A longer sentence is a batch of its own.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
