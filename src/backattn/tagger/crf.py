"""Linear-chain CRF over BIOES tags (eq. 8). The only importer of torchcrf.

``torchcrf.CRF`` holds the parameters, and the tests compare with it. The sums are computed here: torchcrf
calls ``.item()`` for each token, and autograd records each operation of its loops over time. That takes half
of a training step on a CPU, and far more on a GPU.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchcrf import CRF

from backattn.common.sequence_reversal import gather_steps, reversal_indices
from backattn.corpus.tags import legal_transitions

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
# Scores of pairs of tags that are held at a time, in float64: 32 MiB.
_MOST_PAIRS = 1 << 22
# Less than any score.
_LOWEST = -1e300


class BioesCrf(nn.Module):
    """A CRF whose decoder never gives a tag sequence that BIOES forbids.

    Training is not constrained (as in the paper): gold is legal anyway, and a normaliser over legal paths
    alone would not penalise emissions that favour illegal ones.

    :param tags: the k tags; with all four tags of every type and O, a legal path of any length exists.
    """

    allowed: Tensor  # shape: (k, k) bool
    allowed_first: Tensor  # shape: (k,) bool
    allowed_last: Tensor  # shape: (k,) bool

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__()
        self.chain = CRF(len(tags), batch_first=True)
        # shape: (k + 1, k + 1); the last row is the start of the sentence, the last column its end
        legal = torch.from_numpy(legal_transitions(tags))
        self.register_buffer("allowed", legal[:-1, :-1], persistent=False)
        self.register_buffer("allowed_first", legal[-1, :-1], persistent=False)
        self.register_buffer("allowed_last", legal[:-1, -1], persistent=False)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Compute log p(tags | sentence).

        :param emissions: *Shape:* (b, m, k), float32; what lies beyond a sentence's length is ignored.
        :param tags: gold tag numbers, any valid number on padding. *Shape:* (b, m)
        :param lengths: tokens of each sentence, at least 1. *Shape:* (b,)
        :returns: *Shape:* (b,)
        """
        chain = self.chain
        found: Tensor = _LogLikelihood.apply(  # type: ignore[no-untyped-call]
            emissions, chain.transitions, chain.start_transitions, chain.end_transitions, tags, lengths
        )
        return found

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Find the best legal tag sequence of each sentence (Viterbi).

        :param emissions, lengths: as for :meth:`log_likelihood`.
        :returns: tag numbers; 0 on padding. *Shape:* (b, m)
        """
        forbidden = float("-inf")
        transitions = self.chain.transitions.masked_fill(~self.allowed, forbidden)
        start = self.chain.start_transitions.masked_fill(~self.allowed_first, forbidden)
        end = self.chain.end_transitions.masked_fill(~self.allowed_last, forbidden)
        # Sentences are neighbours in memory, so that a maximum over tags takes many of them at once.
        # shape: (k, b) each
        first, *others = emissions.permute(1, 2, 0).contiguous()
        scores = [start.unsqueeze(1) + first]
        for emission in others:
            # shape: (k, 1, b) + (k, k, 1) -> (k, b)
            scores.append((scores[-1].unsqueeze(1) + transitions.unsqueeze(2)).amax(0) + emission)
        # Tracing back takes many small steps: on a GPU, each would take longer than copying all scores.
        best_scores = torch.stack(scores).transpose(1, 2).contiguous().cpu().numpy()
        tags = _trace_back(best_scores, transitions.T.cpu().numpy(), end.cpu().numpy(), lengths.cpu().numpy())
        return torch.from_numpy(tags).to(emissions.device)

    @torch.no_grad()
    def span_probabilities(self, emissions: Tensor, lengths: Tensor, tags: Tensor, spans: Tensor) -> Tensor:
        """Compute the marginal probability of entities: that of all legal tag sequences with this entity.

        It is the sum over all paths to the span's first tag, times the score of the span's own tags, times
        the sum over all paths from its last tag, divided by the sum over all legal paths. It is computed in
        logarithms of float64; an illegal path has probability 0, whatever its score.

        :param emissions, lengths: as for :meth:`log_likelihood`.
        :param tags: the BIOES tags of the entities, any number elsewhere. *Shape:* (b, m)
        :param spans: sentence, first token and last token of each entity. *Shape:* (s, 3)
        :returns: *Shape:* (s,), float64
        """
        # numpy is several times as fast as torch on many small steps of one token each.
        found = np.empty(len(spans))
        rows, first, last = spans.cpu().numpy().T
        # Only sentences with an entity, as many at a time as the bound on pairs of tags allows.
        most = max(1, _MOST_PAIRS // (2 * emissions.shape[2] ** 2))
        with_entities = np.unique(rows)
        for begin in range(0, len(with_entities), most):
            part = with_entities[begin : begin + most]
            chosen = torch.from_numpy(part).to(lengths.device)
            m = int(lengths[chosen].max())
            mine = np.isin(rows, part).nonzero()[0]
            places = np.searchsorted(part, rows[mine]), first[mine], last[mine]
            found[mine] = self._span_scores(emissions[chosen, :m], lengths[chosen], tags[chosen, :m], *places)
        return torch.from_numpy(np.exp(found).clip(max=1)).to(emissions.device)

    def _span_scores(
        self, emissions: Tensor, lengths: Tensor, tags: Tensor, rows: Ints, first: Ints, last: Ints
    ) -> Doubles:
        """Logarithm of the probability of each span of these sentences. *Shape:* (s,)"""
        forbidden, chain = float("-inf"), self.chain
        transitions = chain.transitions.double().masked_fill(~self.allowed, forbidden)
        start = chain.start_transitions.double().masked_fill(~self.allowed_first, forbidden)
        end = chain.end_transitions.double().masked_fill(~self.allowed_last, forbidden)
        order = reversal_indices(lengths, emissions.shape[1])
        # The emissions as they are, and with each sentence reversed. shape: (m, 2, b, k)
        both = torch.stack([emissions, gather_steps(emissions, order)]).permute(2, 0, 1, 3)
        emitted: Doubles = both.double().contiguous().cpu().numpy()
        sums = _sums_over_paths(
            torch.stack([start, end]).cpu().numpy(),
            torch.stack([transitions, transitions.T]).cpu().numpy(),
            emitted,
        )
        own_tags, lasts = tags.cpu().numpy(), lengths.cpu().numpy() - 1
        sentences = np.arange(len(lasts))
        to_the_end = sums[lasts, 0, sentences] + emitted[lasts, 0, sentences] + end.cpu().numpy()
        everything = np.logaddexp.reduce(to_the_end, axis=1)
        # Transition and emission scores of the given tags, then their cumulative sums. shape: (b, m)
        steps = np.zeros(own_tags.shape)
        steps[:, 1:] = chain.transitions.double().cpu().numpy()[own_tags[:, :-1], own_tags[:, 1:]]
        own_emissions = np.take_along_axis(emitted[:, 0], own_tags.T[..., None], 2)[..., 0].T
        steps[:, 1:] += own_emissions[:, 1:]
        walked = steps.cumsum(1)
        own = walked[rows, last] - walked[rows, first] + own_emissions[rows, first]
        before = sums[first, 0, rows, own_tags[rows, first]]
        after = sums[lasts[rows] - last, 1, rows, own_tags[rows, last]]
        scores: Doubles = before + own + after - everything[rows]
        return scores


def _sums_over_paths(first: Doubles, transitions: Doubles, emissions: Doubles) -> Doubles:
    """Compute the log-sum over all paths to each tag of each token, without the token's own emission.

    :param first: scores of a first tag, in both directions. *Shape:* (2, k)
    :param transitions: from the row's tag to the column's. *Shape:* (2, k, k)
    :param emissions: *Shape:* (m, 2, b, k)
    :returns: -inf where there is no legal path. *Shape:* (m, 2, b, k)
    """
    sums = np.empty_like(emissions)
    sums[0] = first[:, np.newaxis]
    steps = transitions[:, np.newaxis]
    with np.errstate(divide="ignore"):  # log(0) = -inf is intended
        for position in range(1, len(sums)):
            # shape: (2, b, k, 1) + (2, 1, k, k)
            paths = (sums[position - 1] + emissions[position - 1])[..., np.newaxis] + steps
            # shape: (2, b, 1, k); finite: where no path is legal, -inf minus -inf would be NaN
            highest = paths.max(2, keepdims=True, initial=_LOWEST)
            paths -= highest
            np.exp(paths, out=paths)
            np.add(np.log(paths.sum(2)), highest[:, :, 0], out=sums[position])
    return sums


class _LogLikelihood(torch.autograd.Function):
    """Score of the gold tags minus the log-sum over all tag sequences.

    The gradient is the observed counts of tags and transitions minus the expected ones, which the
    forward-backward algorithm gives without autograd. The sums from the left and from the right are one batch
    of 2b sentences, of which the second half is reversed: one loop over m for both. A step is one small
    matrix product of exponentials. In float64, and normalised to sum 1 at each step, they stay in range
    unless a score exceeds the others by 700.
    """

    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        transitions: Tensor,
        start: Tensor,
        end: Tensor,
        gold: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        """(b, m, k), (k, k), (k,), (k,), (b, m), (b,) -> (b,)"""
        order = reversal_indices(lengths, emissions.shape[1])
        # Subtracted from the scores, so that no exponential is above 1, and added back at the end.
        # shape: (b, m, 1) and ()
        highest, steepest = emissions.amax(2, keepdim=True).double(), transitions.max().double()
        emitted = (emissions - highest).exp()
        transition = (transitions.double() - steepest).exp()
        ends = torch.stack([start, end]).double().exp()
        # shape: (2, k, k), (2, b, m, k): from the left and from the right
        both_transitions, both_emissions = (
            torch.stack([transition, transition.T]),
            torch.stack([emitted, gather_steps(emitted, order)]),
        )
        # The sums over all paths to a tag, without its own emission and with it. shape: (2, b, k)
        prediction = ends.unsqueeze(1).expand(-1, len(lengths), -1)
        predicted, updated, totals = [], [], []
        for emission in both_emissions.unbind(2):
            update = prediction * emission
            total = update.sum(2, keepdim=True)
            update = update / total
            predicted.append(prediction)
            updated.append(update)
            totals.append(total)
            prediction = update @ both_transitions
        # shape: (b, m, k)
        left_prediction, left = torch.stack(predicted, 2)[0], torch.stack(updated, 2)[0]
        right = gather_steps(torch.stack(updated, 2)[1], order)
        # shape: (b, m)
        inside = torch.arange(emissions.shape[1], device=lengths.device) < lengths.unsqueeze(1)
        sentences = torch.arange(len(lengths), device=lengths.device)
        ctx.save_for_backward(left_prediction, left, right, transition, gold, inside, sentences, lengths)
        grown = (torch.stack(totals, 2)[0].log() + highest).squeeze(2) + steepest
        log_sum = (grown * inside).sum(1) - steepest + (left[sentences, lengths - 1] @ ends[1]).log()
        score = _path_score(emissions, transitions, start, end, gold, inside, lengths)
        return score - log_sum.to(score.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Observed minus expected: each tag at each token, and each pair of tags over all tokens."""
        left_prediction, left, right, transition, gold, inside, sentences, lengths = ctx.saved_tensors
        k = len(transition)
        # shape: (b, m, 1)
        weight = (gradient.unsqueeze(1) * inside).unsqueeze(2)
        # shape: (b, m, k)
        marginals = left_prediction * right
        scale = weight / marginals.sum(2, keepdim=True)
        tags = (marginals * -scale).to(gradient.dtype).scatter_add_(2, gold.unsqueeze(2), weight)
        # shape: (k, k)
        expected = transition * (left[:, :-1].reshape(-1, k).T @ (right * scale)[:, 1:].reshape(-1, k))
        steps = (gold[:, :-1] * k + gold[:, 1:]).reshape(-1)
        pairs = (-expected).to(gradient.dtype).view(-1).index_add_(0, steps, weight[:, 1:].reshape(-1))
        return tags, pairs.view(k, k), tags[:, 0].sum(0), tags[sentences, lengths - 1].sum(0), None, None


def _path_score(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor,
    end: Tensor,
    gold: Tensor,
    inside: Tensor,
    lengths: Tensor,
) -> Tensor:
    """Compute the score of the given tags. *Shape:* (b,)"""
    # shape: (b, m)
    emitted = emissions.gather(2, gold.unsqueeze(2)).squeeze(2)
    # shape: (b, m - 1)
    moved = transitions[gold[:, :-1], gold[:, 1:]]
    last = gold.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)
    scores: Tensor = (
        (emitted * inside).sum(1) + (moved * inside[:, 1:]).sum(1) + start[gold[:, 0]] + end[last]
    )
    return scores


def _trace_back(scores: Floats, into: Floats, end: Floats, lengths: Ints) -> Ints:
    """Trace back the best paths of a batch from the last token.

    :param scores: score of the best path to each tag of each token. *Shape:* (m, b, k)
    :param into: transitions into the row's tag from the column's. *Shape:* (k, k)
    :param end: transitions from a last tag to the end. *Shape:* (k,)
    :param lengths: tokens of each sentence. *Shape:* (b,)
    :returns: tag numbers; 0 beyond the last token. *Shape:* (b, m)
    """
    m, b, _ = scores.shape
    last = lengths - 1
    # shape: (b,)
    best_last = (scores[last, np.arange(b)] + end).argmax(1)
    tags = np.empty((m, b), dtype=np.int64)
    tags[-1] = tag = best_last
    for position in range(m - 2, -1, -1):
        # A sentence that ends here or further left keeps its last tag.
        tags[position] = tag = np.where(position < last, (scores[position] + into[tag]).argmax(1), best_last)
    tags[np.arange(m)[:, None] > last] = 0
    return np.ascontiguousarray(tags.T)
