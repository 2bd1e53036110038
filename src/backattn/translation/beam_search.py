"""Beam search and forced decoding with any stepwise decoder. Pure torch.

The search is this project's own, because models of fairseq and of transformers share it, it returns the
attention of the best hypothesis, and it is faster. It finds what fairseq's ``SequenceGenerator`` finds (the
tests compare them token by token) with less work. A sentence has its own length limit and leaves the batch as
soon as no better hypothesis is possible. The first step is computed once for each sentence, not for each
hypothesis. Hypotheses are not copied at every step: back-pointers are kept, and only the best hypothesis is
read back at the end.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """The decoder of a batch of encoded sentences, with its state."""

    def step(self, pieces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Extend every hypothesis by one piece and score the next one.

        Hypotheses are numbered row by row, one row for each active sentence. A decoder may change its
        arguments.

        :param pieces: the newest piece of each hypothesis. *Shape:* (sentences, beam)
        :param order: back-pointers: the hypothesis of the previous step that each one extends; in the first
            step, the sentence. *Shape:* (sentences, beam)
        :return: log-probabilities, which the caller may change, and the attention over the source.
            *Shapes:* (hypotheses, vocabulary) and (hypotheses, source)
        """


@dataclass(frozen=True)
class Symbols:
    """Special pieces of the target vocabulary.

    :param eos: ends every translation. It is also the first piece that a decoder gets, whatever piece its
        model begins with.
    :param forbidden: pieces that are never generated, like padding.
    """

    eos: int
    forbidden: Sequence[int]


@dataclass(frozen=True)
class Hypothesis:
    """The best translation of a sentence.

    :param pieces: without EOS at the end.
    :param attention: one column for each piece and for EOS. *Shape:* (source, pieces + 1)
    """

    pieces: tuple[int, ...]
    attention: Tensor


class NotFinite(ArithmeticError):
    """A decoder returned scores that are not finite.

    :param sentence: position of the sentence in the batch.
    """

    def __init__(self, sentence: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True)
class _Step:
    """Input pieces of a step, their back-pointers, and the attention that predicts the next pieces."""

    pieces: Tensor
    order: Tensor
    attention: Tensor


class _BestFinished:
    """The best finished hypothesis of each sentence so far: its score, last step and number."""

    def __init__(self, sentences: int, device: torch.device) -> None:
        self.score = torch.full((sentences,), -torch.inf, device=device)
        self.step = torch.zeros(sentences, dtype=torch.long, device=device)
        self.hypothesis = torch.zeros(sentences, dtype=torch.long, device=device)
        self.count = torch.zeros(sentences, dtype=torch.long, device=device)

    def add(self, sentences: Tensor, step: int, ended: Tensor, scores: Tensor, hypotheses: Tensor) -> None:
        """Record the hypotheses that end in this step. *Shape of the last three:* (sentences, beam)"""
        best, which = scores.masked_fill(~ended, -torch.inf).max(1)
        best = best / (step + 1)  # mean over the pieces and EOS, as fairseq scores
        better = best > self.score[sentences]
        changed = sentences[better]
        self.score[changed] = best[better]
        self.step[changed] = step
        self.hypothesis[changed] = hypotheses.gather(1, which[:, None])[:, 0][better]
        self.count[sentences] += ended.sum(1)


def beam_search(decoder: Decoder, limits: Tensor, beam: int, symbols: Symbols) -> list[Hypothesis]:
    """Translate a batch by beam search.

    :param limits: the most pieces of each sentence's translation, at least 1. *Shape:* (sentences,)
    :param beam: beam size; a sentence is done when that many of its hypotheses have ended.
    :raises NotFinite: no continuation of a sentence has a finite score.
    """
    device = limits.device
    active = torch.arange(len(limits), device=device)  # the sentences that are not done
    order = active[:, None]
    pieces = torch.full_like(order, symbols.eos)
    totals = torch.zeros(order.shape, device=device)
    forbidden = torch.tensor(symbols.forbidden, dtype=torch.long, device=device)
    finished = _BestFinished(len(limits), device)
    path: list[_Step] = []
    for step in itertools.count():
        log_probs, attention = decoder.step(pieces, order)
        path.append(_Step(pieces.flatten(), order.flatten(), attention))
        log_probs.index_fill_(1, forbidden, -torch.inf)
        log_probs = log_probs.view(*order.shape, -1)
        at_limit = limits[active] <= step
        if step == 0:  # no translation is empty
            log_probs[..., symbols.eos] = -torch.inf
        elif at_limit.any():
            _force_piece(symbols.eos, log_probs, at_limit)
        scores, pieces, hypotheses = _candidates(log_probs, totals, 2 * beam)
        impossible = ~scores[:, 0].isfinite()
        if impossible.any():
            raise NotFinite(int(active[impossible][0]))

        ended = (pieces == symbols.eos) & scores.isfinite()
        finished.add(active, step, ended[:, :beam], scores[:, :beam], hypotheses[:, :beam])
        # The best unfinished ones continue. A tiny vocabulary has too few: a score of -inf fills the beam.
        continuing = ended.sort(dim=1, stable=True).indices[:, :beam]
        totals = scores.masked_fill(ended, -torch.inf).gather(1, continuing)
        pieces, order = pieces.gather(1, continuing), hypotheses.gather(1, continuing)
        # Totals never rise, so the best possible score is today's total over the longest translation.
        best_possible = totals.amax(1) / (limits[active] + 1)
        kept = (finished.count[active] < beam) & ~at_limit & (best_possible > finished.score[active])
        if not kept.all():
            active, totals, pieces, order = active[kept], totals[kept], pieces[kept], order[kept]
        if not len(active):
            return _backtrace(path, finished, symbols.eos)
    raise AssertionError("unreachable: every sentence has a limit")


def force_decode(
    decoder: Decoder, translations: Sequence[Sequence[int]], beam: int, eos: int, device: str
) -> list[Hypothesis]:
    """Decode given translations of a batch (teacher forcing) and return their attention.

    :param translations: the pieces of each sentence's translation, without EOS.
    :param beam: beam size that the decoder was made for; all hypotheses of a sentence are equal.
    """
    sentences, steps = len(translations), 1 + max(map(len, translations))
    # The input of each step: EOS first, and EOS as padding after a translation's end.
    inputs = torch.full((steps, sentences), eos)
    for number, pieces in enumerate(translations):
        inputs[1 : 1 + len(pieces), number] = torch.tensor(pieces)
    order, attentions = torch.arange(sentences, device=device)[:, None], []
    for read in inputs.to(device):
        attention = decoder.step(read[:, None].repeat(1, order.shape[1]), order.clone())[1]
        attentions.append(attention[:: order.shape[1]])
        order = torch.arange(len(attention), device=device).view(sentences, -1)
        order = order.expand(-1, beam)  # one hypothesis a sentence in the first step, as in a search
    attention = torch.stack(attentions, 2)  # shape: (sentences, source, steps)
    return [
        Hypothesis(tuple(pieces), columns[:, : len(pieces) + 1])
        for pieces, columns in zip(translations, attention, strict=True)
    ]


def _force_piece(piece: int, log_probs: Tensor, sentences: Tensor) -> None:
    """Forbid all other pieces in these sentences."""
    kept = log_probs[sentences, :, piece].clone()
    log_probs[sentences] = -torch.inf
    log_probs[sentences, :, piece] = kept


def _candidates(log_probs: Tensor, totals: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence, best first: total score, piece and extended hypothesis.

    The top of a sentence is searched among the top of each of its hypotheses, a much shorter list.

    :param log_probs: *Shape:* (sentences, beam, vocabulary)
    """
    sentences, beam, vocabulary = log_probs.shape
    best, pieces = log_probs.flatten(0, 1).topk(min(count, vocabulary))
    each = best.shape[1]
    scores, chosen = (best + totals.view(-1, 1)).view(sentences, -1).topk(min(count, beam * each))
    first = torch.arange(0, sentences * beam, beam, device=totals.device)[:, None]
    return scores, pieces.view(sentences, -1).gather(1, chosen), first + chosen // each


def _backtrace(path: Sequence[_Step], finished: _BestFinished, eos: int) -> list[Hypothesis]:
    """Read the best hypotheses back along the back-pointers, for all sentences at once.

    :raises NotFinite: a sentence has no finished hypothesis.
    """
    sentences = len(finished.step)
    unfinished = finished.score.isneginf()
    if unfinished.any():
        raise NotFinite(int(unfinished.nonzero()[0]))
    pieces = torch.full((sentences, len(path) + 1), eos, device=finished.step.device)
    first = path[0].attention
    attention = first.new_zeros(sentences, first.shape[1], len(path))
    at = finished.hypothesis.clone()
    for number in range(len(path) - 1, -1, -1):
        step = path[number]
        reached = (finished.step >= number).nonzero()[:, 0]
        here = at[reached]
        attention[reached, :, number] = step.attention[here]
        pieces[reached, number] = step.pieces[here]
        at[reached] = step.order[here]
    return [
        Hypothesis(tuple(row[1:length]), columns[:, :length])
        for row, columns, length in zip(pieces.tolist(), attention, (finished.step + 1).tolist(), strict=True)
    ]
