"""Cut sequences of different lengths into batches that need little padding and fit into memory."""

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], max_padded: int, max_sequences: int | None = None) -> Iterator[list[int]]:
    """Sort sequences by length, longest first, and cut them where a batch with its padding would be too big.

    :param lengths: of all sequences; their unit (tokens, pieces, characters) is that of ``max_padded``.
    :param max_padded: length of a batch's longest sequence times the size of the batch. A longer sequence
        is a batch of its own.
    :param max_sequences: size of a batch; None for no other limit.
    :return: positions in ``lengths``. Equal lengths keep their order.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) == max_sequences or lengths[batch[0]] * (len(batch) + 1) > max_padded):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
