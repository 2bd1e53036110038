"""Sentences of unlike length -> batches that pad little and fit into memory."""

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], most: int, most_items: int | None = None) -> Iterator[list[int]]:
    """Positions of the longest first, cut where a batch with its padding would be too big.

    :param lengths: of all; their unit (tokens, pieces, characters) is that of ``most``.
    :param most: length of the longest times size of a batch; one that is longer alone is a batch of its own.
    :param most_items: size of the largest batch; None for no limit.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) == most_items or lengths[batch[0]] * (len(batch) + 1) > most):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
