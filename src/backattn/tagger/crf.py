"""Linear-chain CRF over BIOES tags (eq. 8). The only importer of torchcrf.

``torchcrf.CRF`` holds the parameters and is the oracle of the tests. The sums are computed here: it takes
``.item()`` for each token and gathers inside a loop over time, which costs half of the step on a CPU and
far more on a GPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchcrf import CRF

from backattn.corpus.tags import legal_transitions


class BioesCrf(nn.Module):
    """A CRF whose decoder never gives a tag sequence that BIOES forbids.

    Training is not constrained (as in the paper): gold is legal anyway, and a constraint in the
    normaliser would hide from the emissions what they get wrong.

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
        """log p(tags | sentence).

        :param emissions: *Shape:* (b, m, k), float32; what lies beyond a sentence's length is ignored.
        :param tags: gold tag numbers, any valid number on padding. *Shape:* (b, m)
        :param lengths: tokens of each sentence, at least 1. *Shape:* (b,)
        :returns: *Shape:* (b,)
        """
        return self._path_score(emissions, tags, lengths) - self._log_normaliser(emissions, lengths)

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """The best legal tag sequence of each sentence (Viterbi).

        :param emissions, lengths: as for :meth:`log_likelihood`.
        :returns: tag numbers; 0 on padding. *Shape:* (b, m)
        """
        forbidden = float("-inf")
        # shape: (k, k)
        transitions = self.chain.transitions.masked_fill(~self.allowed, forbidden)
        start = self.chain.start_transitions.masked_fill(~self.allowed_first, forbidden)
        end = self.chain.end_transitions.masked_fill(~self.allowed_last, forbidden)
        steps = emissions.unbind(1)
        # shape: (b, k)
        score = start + steps[0]
        scores, pointers = [score], []
        for emission in steps[1:]:
            # shape: (b, k, k) -> (b, k)
            score, pointer = (score.unsqueeze(2) + transitions).max(dim=1)
            score = score + emission
            scores.append(score)
            pointers.append(pointer)
        # shape: (b, m, k)
        ending = torch.stack(scores, 1) + end
        last = lengths - 1
        # shape: (b,)
        best_last = ending[torch.arange(len(last), device=last.device), last].argmax(dim=1)
        return _trace_back(best_last, pointers, last)

    def _path_score(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Score of the given tags: the numerator. *Shape:* (b,)"""
        # shape: (b, m)
        mask = torch.arange(tags.shape[1], device=tags.device) < lengths.unsqueeze(1)
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        # shape: (b, m - 1)
        moved = self.chain.transitions[tags[:, :-1], tags[:, 1:]]
        last_tags = tags.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)
        ends = self.chain.start_transitions[tags[:, 0]] + self.chain.end_transitions[last_tags]
        scores: Tensor = (emitted * mask).sum(1) + (moved * mask[:, 1:]).sum(1) + ends
        return scores

    def _log_normaliser(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Log of the sum over all tag sequences: the forward algorithm. *Shape:* (b,)"""
        steps = emissions.unbind(1)
        # shape: (b, k)
        score = self.chain.start_transitions + steps[0]
        scores = [score]
        for emission in steps[1:]:
            score = torch.logsumexp(score.unsqueeze(2) + self.chain.transitions, dim=1) + emission
            scores.append(score)
        # Short sentences run on over their padding; each takes the step where it ends.
        # shape: (b, k)
        at_end = torch.stack(scores, 1)[torch.arange(len(lengths), device=lengths.device), lengths - 1]
        return torch.logsumexp(at_end + self.chain.end_transitions, dim=1)


def _trace_back(best_last: Tensor, pointers: Sequence[Tensor], last: Tensor) -> Tensor:
    """Follow the pointers of a whole batch at once, from the right.

    :param best_last: tag of each sentence's last token. *Shape:* (b,)
    :param pointers: for each step from the second, the best tag before it. *Shape:* (b, k) each
    :param last: position of the last token. *Shape:* (b,)
    :returns: *Shape:* (b, m), 0 beyond the last token.
    """
    tag = best_last
    columns = [torch.where(last == len(pointers), tag, 0)]
    for position in range(len(pointers) - 1, -1, -1):
        followed = pointers[position].gather(1, tag.unsqueeze(1)).squeeze(1)
        # A sentence that ends here, or further left, still waits with its last tag.
        tag = torch.where(position < last, followed, best_last)
        columns.append(torch.where(position <= last, tag, 0))
    return torch.stack(columns[::-1], 1)
