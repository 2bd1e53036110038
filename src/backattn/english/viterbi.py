"""Viterbi decoding under flair's CRF for a whole batch at once."""

import torch
from torch import Tensor


def viterbi(
    emissions: Tensor, lengths: Tensor, transitions: Tensor, start: int, stop: int
) -> list[list[int]]:
    """Find the best tag sequences: those of flair's ``ViterbiDecoder``, which loops over words in Python.

    :param emissions: *Shape:* (batch, n, tags)
    :param lengths: of the sentences, the longest first; on the CPU. *Shape:* (batch,)
    :param transitions: scores [to, from]. *Shape:* (tags, tags)
    :param start: the tag before the first word.
    :param stop: the tag after the last word.
    """
    n = emissions.shape[1]
    # Number of sentences that have a word at each step; they are the first ones of the batch.
    active = (lengths > torch.arange(n)[:, None]).sum(1).tolist()
    # shape: (batch, tags), the best score of a path that ends in each tag
    scores = emissions[:, 0] + transitions[:, start]
    backpointers = []
    for step in range(1, n):
        count = active[step]
        # shape: (count, to, from)
        path_scores = emissions[:count, step, :, None] + transitions + scores[:count, None, :]
        scores[:count], best_previous = path_scores.max(2)
        backpointers.append(best_previous)
    tag = (scores + transitions[stop]).argmax(1)
    # shape: (batch, n)
    tags = tag[:, None].repeat(1, n)
    for step in range(n - 1, 0, -1):
        count = active[step]
        tags[:count, step] = tag[:count]
        tag[:count] = backpointers[step - 1].gather(1, tag[:count, None])[:, 0]
    tags[:, 0] = tag
    return [row[:length] for row, length in zip(tags.tolist(), lengths.tolist(), strict=True)]
