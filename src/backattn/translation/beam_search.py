"""Beam search over any decoder that goes piece by piece, and the reading of a given translation. Pure torch,
knows no fairseq.

It finds what fairseq's ``SequenceGenerator`` finds (the tests compare them token by token), with less work:
a sentence has its own length limit and leaves the batch as soon as nothing better can come; the first step
is done once a sentence, not once a beam; and no hypothesis carries its past along: each step keeps what it
chose, and the best hypothesis alone is put together from that at the end.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """A batch of encoded sentences that are being translated."""

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Read one more piece of every hypothesis and say what may come next.

        Hypotheses are numbered row by row, a row for each sentence that is left. The arguments may be
        changed.

        :param pieces: the newest piece of each hypothesis. *Shape:* (sentences, beam)
        :param order: which hypothesis of the step before each one goes on from; in the first step, which
            sentence. *Shape:* (sentences, beam)
        :return: log-probabilities, which the caller may change, and the attention over the source.
            *Shapes:* (hypotheses, vocabulary) and (hypotheses, source)
        """


@dataclass(frozen=True)
class Symbols:
    """The pieces that are none.

    :param eos: ends every translation; a decoder is given it first, and knows what to begin with.
    :param never: may not be written: padding and the like.
    """

    eos: int
    never: Sequence[int]


@dataclass(frozen=True)
class Hypothesis:
    """The best translation that was found of a sentence.

    :param pieces: EOS, which ends it, not among them.
    :param attention: one column for each piece and for EOS. *Shape:* (source, pieces + 1)
    """

    pieces: tuple[int, ...]
    attention: Tensor


class NotFinite(ArithmeticError):
    """A decoder gave numbers that are not finite.

    :param sentence: for this sentence of the batch.
    """

    def __init__(self, sentence: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True)
class _Step:
    """What a step read, where that came from, and where the decoder looked to write what is next."""

    pieces: Tensor
    order: Tensor
    attention: Tensor


class _Ends:
    """The best end that each sentence of a batch has so far: its score, step and hypothesis."""

    def __init__(self, sentences: int, device: torch.device) -> None:
        self.score = torch.full((sentences,), -torch.inf, device=device)
        self.step = torch.zeros(sentences, dtype=torch.long, device=device)
        self.hypothesis = torch.zeros(sentences, dtype=torch.long, device=device)
        self.count = torch.zeros(sentences, dtype=torch.long, device=device)

    def add(self, sentences: Tensor, step: int, ended: Tensor, scores: Tensor, hypotheses: Tensor) -> None:
        """Take note of the hypotheses that end in this step. *Shape of the last three:* (sentences, beam)"""
        best, which = scores.masked_fill(~ended, -torch.inf).max(1)
        best = best / (step + 1)  # the mean over the pieces and EOS, as fairseq scores
        better = best > self.score[sentences]
        changed = sentences[better]
        self.score[changed] = best[better]
        self.step[changed] = step
        self.hypothesis[changed] = hypotheses.gather(1, which[:, None])[:, 0][better]
        self.count[sentences] += ended.sum(1)


def beam_search(decoder: Decoder, limits: Tensor, beam: int, symbols: Symbols) -> list[Hypothesis]:
    """Translate a batch.

    :param limits: the most pieces of each sentence's translation, at least 1. *Shape:* (sentences,)
    :param beam: hypotheses of a sentence that are followed; a sentence is done when so many have ended.
    :raises NotFinite: no continuation of a sentence has a probability.
    """
    device = limits.device
    left = torch.arange(len(limits), device=device)  # the sentences that are not done
    order = left[:, None]
    pieces = torch.full_like(order, symbols.eos)
    totals = torch.zeros(order.shape, device=device)
    never = torch.tensor(symbols.never, dtype=torch.long, device=device)
    ends = _Ends(len(limits), device)
    path: list[_Step] = []
    for step in itertools.count():
        log_probs, attention = decoder.step(pieces, order)
        path.append(_Step(pieces.flatten(), order.flatten(), attention))
        log_probs.index_fill_(1, never, -torch.inf)
        log_probs = log_probs.view(*order.shape, -1)
        over = limits[left] <= step
        if step == 0:  # no translation is empty
            log_probs[..., symbols.eos] = -torch.inf
        elif over.any():
            _only(symbols.eos, log_probs, over)
        scores, pieces, hypotheses = _candidates(log_probs, totals, 2 * beam)
        lost = ~scores[:, 0].isfinite()
        if lost.any():
            raise NotFinite(int(left[lost][0]))

        ended = (pieces == symbols.eos) & scores.isfinite()
        ends.add(left, step, ended[:, :beam], scores[:, :beam], hypotheses[:, :beam])
        # The first that do not end go on. With a tiny vocabulary there are too few: -inf keeps a place.
        goes_on = ended.sort(dim=1, stable=True).indices[:, :beam]
        totals = scores.masked_fill(ended, -torch.inf).gather(1, goes_on)
        pieces, order = pieces.gather(1, goes_on), hypotheses.gather(1, goes_on)
        # A total only falls; at best it is spread over the longest translation.
        hope = totals.amax(1) / (limits[left] + 1)
        stays = (ends.count[left] < beam) & ~over & (hope > ends.score[left])
        if not stays.all():
            left, totals, pieces, order = left[stays], totals[stays], pieces[stays], order[stays]
        if not len(left):
            return _trace(path, ends, symbols.eos)
    raise AssertionError("unreachable: every sentence has a limit")


def force_decode(
    decoder: Decoder, translations: Sequence[Sequence[int]], beam: int, eos: int, device: str
) -> list[Hypothesis]:
    """Decode a batch by force: where does the decoder look to write what is given?

    :param translations: the pieces of each sentence's translation, EOS not among them.
    :param beam: that the decoder was made for; all rows of a sentence read the same.
    """
    sentences, steps = len(translations), 1 + max(map(len, translations))
    # What each step reads: EOS first. Where a translation has ended, it goes on with EOS, and nobody looks.
    given = torch.full((steps, sentences), eos)
    for number, pieces in enumerate(translations):
        given[1 : 1 + len(pieces), number] = torch.tensor(pieces)
    order, looked = torch.arange(sentences, device=device)[:, None], []
    for read in given.to(device):
        attention = decoder.step(read[:, None].repeat(1, order.shape[1]), order.clone())[1]
        looked.append(attention[:: order.shape[1]])
        order = torch.arange(len(attention), device=device).view(sentences, -1)
        order = order.expand(-1, beam)  # one row a sentence in the first step, as in a search
    attention = torch.stack(looked, 2)  # shape: (sentences, source, steps)
    return [
        Hypothesis(tuple(pieces), columns[:, : len(pieces) + 1])
        for pieces, columns in zip(translations, attention, strict=True)
    ]


def _only(piece: int, log_probs: Tensor, sentences: Tensor) -> None:
    """Let these sentences write nothing but this piece."""
    kept = log_probs[sentences, :, piece].clone()
    log_probs[sentences] = -torch.inf
    log_probs[sentences, :, piece] = kept


def _candidates(log_probs: Tensor, totals: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence, best first: total, piece, and number of the hypothesis.

    The best of a sentence are among the best of its hypotheses, which is a much shorter list to search.

    :param log_probs: *Shape:* (sentences, beam, vocabulary)
    """
    sentences, beam, vocabulary = log_probs.shape
    best, pieces = log_probs.flatten(0, 1).topk(min(count, vocabulary))
    each = best.shape[1]
    scores, chosen = (best + totals.view(-1, 1)).view(sentences, -1).topk(min(count, beam * each))
    first = torch.arange(0, sentences * beam, beam, device=totals.device)[:, None]
    return scores, pieces.view(sentences, -1).gather(1, chosen), first + chosen // each


def _trace(path: Sequence[_Step], ends: _Ends, eos: int) -> list[Hypothesis]:
    """Go back from the best ends, for all sentences together.

    :raises NotFinite: a sentence has no end.
    """
    sentences = len(ends.step)
    endless = ends.score.isneginf()
    if endless.any():
        raise NotFinite(int(endless.nonzero()[0]))
    pieces = torch.full((sentences, len(path) + 1), eos, device=ends.step.device)
    first = path[0].attention
    attention = first.new_zeros(sentences, first.shape[1], len(path))
    at = ends.hypothesis.clone()
    for number in range(len(path) - 1, -1, -1):
        step = path[number]
        reached = (ends.step >= number).nonzero()[:, 0]
        here = at[reached]
        attention[reached, :, number] = step.attention[here]
        pieces[reached, number] = step.pieces[here]
        at[reached] = step.order[here]
    return [
        Hypothesis(tuple(row[1:length]), columns[:, :length])
        for row, columns, length in zip(pieces.tolist(), attention, (ends.step + 1).tolist(), strict=True)
    ]
