"""The best tags under flair's CRF, for a whole batch at once."""

import torch
from torch import Tensor


def viterbi(
    emissions: Tensor, lengths: Tensor, transitions: Tensor, start: int, stop: int
) -> list[list[int]]:
    """What flair's ``ViterbiDecoder`` decodes; it visits every word of every sentence in Python.

    :param emissions: *Shape:* (batch, n, tags)
    :param lengths: of the sentences, the longest first; on the CPU. *Shape:* (batch,)
    :param transitions: [to, from]. *Shape:* (tags, tags)
    :param start: the tag before the first word.
    :param stop: the tag behind the last.
    """
    n = emissions.shape[1]
    # How many sentences, from the first on, have a word at each place.
    running = (lengths > torch.arange(n)[:, None]).sum(1).tolist()
    # shape: (batch, tags), the best score of a way that ends in each tag
    scores = emissions[:, 0] + transitions[:, start]
    origins = []
    for place in range(1, n):
        now = running[place]
        # shape: (now, to, from)
        ways = emissions[:now, place, :, None] + transitions + scores[:now, None, :]
        scores[:now], origin = ways.max(2)
        origins.append(origin)
    tag = (scores + transitions[stop]).argmax(1)
    # shape: (batch, n)
    tags = tag[:, None].repeat(1, n)
    for place in range(n - 1, 0, -1):
        now = running[place]
        tags[:now, place] = tag[:now]
        tag[:now] = origins[place - 1].gather(1, tag[:now, None])[:, 0]
    tags[:, 0] = tag
    return [row[:length] for row, length in zip(tags.tolist(), lengths.tolist(), strict=True)]
