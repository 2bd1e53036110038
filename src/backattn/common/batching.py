"""Cut sequences of different lengths into batches that need little padding and fit into memory."""

from collections.abc import Iterator, Sequence


def batches(
    lengths: Sequence[int],
    max_padded: int,
    max_sequences: int | None = None,
    *,
    characters: Sequence[int] | None = None,
    max_characters: int = 0,
) -> Iterator[list[int]]:
    """Sort sequences by length, longest first, and cut them where a batch with its padding would be too big.

    :param lengths: length of each sequence, in the unit of ``max_padded`` (tokens, pieces, characters).
    :param max_padded: length of a batch's longest sequence times the size of the batch. A longer sequence
        is a batch of its own.
    :param max_sequences: size of a batch; None for no other limit.
    :param characters: characters of each sequence, if a batch holds padded characters too; else None.
    :param max_characters: limit on the padded characters of a batch.
    :return: positions in ``lengths``. Equal lengths keep their order.
    """
    batch: list[int] = []
    widest = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        width = characters[position] if characters is not None else 0
        widest = max(widest, width)
        size = len(batch) + 1
        if batch and (
            size - 1 == max_sequences
            or lengths[batch[0]] * size > max_padded
            or (characters is not None and widest * size > max_characters)
        ):
            yield batch
            batch, widest = [], width
        batch.append(position)
    if batch:
        yield batch
