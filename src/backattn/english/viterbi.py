"""Viterbi decoding under flair's CRF for a whole batch at once."""

import torch
from torch import Tensor


def viterbi(
    emissions: Tensor, lengths: Tensor, transitions: Tensor, start: int, stop: int
) -> list[list[int]]:
    """The best tag sequences: those of flair's ``ViterbiDecoder``, which loops over all words in Python.

    :param emissions: *Shape:* (batch, n, tags)
    :param lengths: of the sentences, the longest first; on the CPU. *Shape:* (batch,)
    :param transitions: scores [to, from]. *Shape:* (tags, tags)
    :param start: the tag before the first word.
    :param stop: the tag after the last word.
    """
    n = emissions.shape[1]
    # Number of sentences, counted from the first, that have a word at each step.
    active = (lengths > torch.arange(n)[:, None]).sum(1).tolist()
    # shape: (batch, tags), the best score of a path that ends in each tag
    scores = emissions[:, 0] + transitions[:, start]
    backpointers = []
    for step in range(1, n):
        now = active[step]
        # shape: (now, to, from)
        path_scores = emissions[:now, step, :, None] + transitions + scores[:now, None, :]
        scores[:now], best_previous = path_scores.max(2)
        backpointers.append(best_previous)
    tag = (scores + transitions[stop]).argmax(1)
    # shape: (batch, n)
    tags = tag[:, None].repeat(1, n)
    for step in range(n - 1, 0, -1):
        now = active[step]
        tags[:now, step] = tag[:now]
        tag[:now] = backpointers[step - 1].gather(1, tag[:now, None])[:, 0]
    tags[:, 0] = tag
    return [row[:length] for row, length in zip(tags.tolist(), lengths.tolist(), strict=True)]
