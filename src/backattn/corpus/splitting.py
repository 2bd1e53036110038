"""Split one file into train, dev and test: by documents or sentences, the same way each time.

Equal sentences stay on one side: no training sentence may be in the test. The lines of the file are
kept as they are, so that its format fits the parts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backattn.corpus import SPLITS, Sentence

# With fewer groups of documents, the parts would miss their shares.
_FEWEST_GROUPS = 20
# Orders the groups; another one gives another split.
_SEED = 1


@dataclass(frozen=True)
class Parts:
    """The three parts of a file.

    :param splits: train, dev and test, each in the order of the file.
    :param by_documents: whether whole documents were kept together, not only equal sentences.
    :param part_of: the part of each sentence of the file, from 0.
    """

    splits: Mapping[str, tuple[Sentence, ...]]
    by_documents: bool
    part_of: tuple[int, ...]


def split_sentences(
    sentences: Sequence[Sentence],
    document_of: Sequence[int],
    percents: Sequence[int],
    ends: Sequence[int] = (),
) -> Parts:
    """Split sentences into train, dev and test.

    Documents are kept whole, unless there are few, or equal sentences join them into few groups.

    :param document_of: number of the document of each sentence.
    :param percents: shares of the sentences for train, dev and test.
    :param ends: the last line of each sentence; those of one line stay together.
    """
    total = len(sentences)
    documents = _groups(sentences, document_of)
    sizes = [len(group) for group in documents]
    by_documents = len(sizes) >= _FEWEST_GROUPS and max(sizes) * 100 <= max(percents) * total
    groups = documents if by_documents else _groups(sentences, ends or range(total))
    part_of = _assign(sentences, groups, [percent * total / 100 for percent in percents])
    splits = {
        name: tuple(s for s, own in zip(sentences, part_of, strict=True) if own == part)
        for part, name in enumerate(SPLITS)
    }
    return Parts(splits, by_documents, tuple(part_of))


def split_lines(lines: Sequence[str], ends: Sequence[int], part_of: Sequence[int]) -> list[str]:
    """Return the text of each part of a file: the lines of its sentences.

    Comments, empty lines and document separators go with the sentence that follows them.

    :param lines: lines of the file, with their line feeds.
    :param ends: the number of the last line of each sentence, from 1.
    :param part_of: the part of each sentence, from 0.
    """
    texts: list[list[str]] = [[] for _ in SPLITS]
    begin = 0
    for end, part in zip(ends, part_of, strict=True):
        texts[part] += lines[begin:end]
        begin = end
    return ["".join(text) for text in texts]


def _groups(sentences: Sequence[Sentence], document_of: Sequence[int]) -> list[list[int]]:
    """Group the sentences that must stay together: those of one document, and of documents that share one."""
    parent = list(range(len(sentences)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    first: dict[bytes | int, int] = {}
    for place, (sentence, document) in enumerate(zip(sentences, document_of, strict=True)):
        for mark in (sentence.key, document):
            parent[root(place)] = root(first.setdefault(mark, place))
    groups: dict[int, list[int]] = {}
    for place in range(len(sentences)):
        groups.setdefault(root(place), []).append(place)
    return list(groups.values())


def _assign(sentences: Sequence[Sentence], groups: Sequence[list[int]], wanted: Sequence[float]) -> list[int]:
    """Return the part of each sentence: each group, in the order of a digest, goes where most is missing."""

    def order(group: list[int]) -> bytes:
        least = min(sentences[place].key for place in group)
        return hashlib.sha256(b"%d/%s" % (_SEED, least)).digest()

    missing, part_of = list(wanted), [0] * len(sentences)
    for group in sorted(groups, key=order):
        # Relative to the share of a part, so that a small part is filled from the beginning, not last.
        part = max(range(len(missing)), key=lambda one: (missing[one] / wanted[one], missing[one]))
        missing[part] -= len(group)
        for place in group:
            part_of[place] = part
    return part_of
