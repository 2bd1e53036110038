"""The CRF alone against torchcrf, on batches as they come in training and in prediction."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from backattn.tagger.crf import BioesCrf
from backattn.tagger.dataset import Encoded, encode, prediction_order, training_order
from backattn.tagger.frozen_features import Sources
from backattn.tagger.vocabulary import build_vocabulary
from benchmarks.measure import Row, compare, condition
from benchmarks.tagger import labelled

TRAIN, DEV, BATCH = 600, 400, 16
TOLERANCE = 1e-4


def rows(repeats: int) -> Iterator[Row]:
    """Forward and backward, then decoding."""
    torch.set_num_threads(1)
    text, corpus, _ = labelled(TRAIN, DEV)
    vocabulary = build_vocabulary(corpus.train)
    train = encode([s.tokens for s in corpus.train], vocabulary, [s.tags for s in corpus.train])
    dev = encode([s.tokens for s in corpus.dev], vocabulary)
    crf = BioesCrf(vocabulary.tags)
    k, tokens = len(vocabulary.tags), float(train.lengths.sum())
    batches = [_Batch(train, i, k) for i in training_order(train.lengths, BATCH, np.random.default_rng(0))]

    def ours() -> float:
        for batch in batches:
            crf.log_likelihood(batch.emissions, batch.tags, batch.lengths).mean().backward()
        return tokens

    def peer() -> float:
        for batch in batches:
            crf.chain(batch.emissions, batch.tags, batch.mask, reduction="mean").backward()
        return tokens

    worst = max(_difference(crf, batch) for batch in batches)
    yield condition(
        "CRF, forward and backward", f"scores and gradients of torchcrf within {TOLERANCE:.0e}",
        held=worst < TOLERANCE, found=f"{worst:.1e}",
    )  # fmt: skip
    facts = f"{k} tags, one thread"
    yield compare(
        part="CRF, forward and backward", peer_name="torchcrf", unit="tokens", ours=ours, peer=peer,
        repeats=repeats, must=2.0,
        note=f"{text}, batches of {BATCH}, {facts}",
    )  # fmt: skip

    for legal in (crf.allowed, crf.allowed_first, crf.allowed_last):
        legal.fill_(True)  # torchcrf forbids nothing
    unseen = [_Batch(dev, indices, k) for indices in prediction_order(dev.lengths)]

    def decode() -> list[list[int]]:
        return [row for batch in unseen for row in batch.rows(crf.decode(batch.emissions, batch.lengths))]

    def decode_as_torchcrf() -> list[list[int]]:
        with torch.no_grad():
            return [row for batch in unseen for row in crf.chain.decode(batch.emissions, batch.mask)]

    equal = sum(mine == its for mine, its in zip(decode(), decode_as_torchcrf(), strict=True))
    yield condition(
        "CRF, decoding", "tags of torchcrf", held=equal == len(dev.lengths),
        found=f"{equal} of {len(dev.lengths)} sentences are equal",
    )  # fmt: skip
    yield compare(
        part="CRF, decoding", peer_name="torchcrf", unit="tokens",
        ours=lambda: decode() and float(dev.lengths.sum()),  # type: ignore[arg-type, return-value]
        peer=lambda: decode_as_torchcrf() and float(dev.lengths.sum()),  # type: ignore[arg-type, return-value]
        repeats=repeats, must=3.0, note=f"{len(unseen)} batches, {facts}",
    )  # fmt: skip


class _Batch:
    """Sentences of a corpus with random emissions."""

    def __init__(self, encoded: Encoded, indices: np.ndarray, k: int) -> None:
        batch = encoded.batch(indices, Sources())
        self.lengths = batch.lengths
        self.tags = torch.zeros_like(batch.positions) if batch.tags is None else batch.tags
        self.mask = torch.arange(batch.positions.shape[1]) < batch.lengths.unsqueeze(1)
        self.emissions = (3 * torch.randn(*batch.positions.shape, k)).requires_grad_(batch.tags is not None)

    def rows(self, tags: Tensor) -> list[list[int]]:
        """Lists, as torchcrf gives them."""
        return [row[:n] for row, n in zip(tags.tolist(), self.lengths.tolist(), strict=True)]


def _difference(crf: BioesCrf, batch: _Batch) -> float:
    """The largest difference of a score, relative to it, or of a gradient."""
    ours = crf.log_likelihood(batch.emissions, batch.tags, batch.lengths)
    theirs = crf.chain(batch.emissions, batch.tags, batch.mask, reduction="none")
    inputs = [batch.emissions, *crf.parameters()]
    found = torch.autograd.grad(ours.mean(), inputs)
    # torchcrf never looks at the transitions when all sentences have one token.
    expected = torch.autograd.grad(theirs.mean(), inputs, materialize_grads=True)
    gradients = max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))
    return max(gradients, float(((ours - theirs) / theirs).detach().abs().max()))
