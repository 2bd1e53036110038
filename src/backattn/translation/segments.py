"""What is translated in one go, and in which company."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backattn.common.batching import batches
from backattn.translation.attention_merging import Owner

# Bounds the (sentences x beam, vocabulary) scores of one search step. On a CPU, 48 to 256 sentences are
# translated at one speed.
MOST_SENTENCES = {"cpu": 64, "cuda": 256}


@dataclass(frozen=True)
class Segment:
    """What is translated in one go: p pieces of a sentence of m tokens, nearly always all of them.

    :param tokens: the m tokens of the whole sentence.
    :param pieces: indices in the source dictionary, EOS not among them.
    :param owners: for each piece, the index of its token, or of its tokens.
    """

    tokens: tuple[str, ...]
    pieces: tuple[int, ...]
    owners: tuple[Owner, ...]

    @property
    def text(self) -> str:
        """The sentence, for messages."""
        return " ".join(self.tokens)

    def __len__(self) -> int:
        """Pieces and EOS."""
        return len(self.pieces) + 1


def make_batches(segments: Sequence[Segment], batch_tokens: int, most: int) -> Iterator[list[Segment]]:
    """Cut segments, longest first, into batches of at most ``batch_tokens`` pieces, EOS and padding included.

    A longer segment is a batch of its own.

    :param most: segments of a batch.
    """
    for batch in batches(list(map(len, segments)), batch_tokens, most):
        yield [segments[position] for position in batch]
