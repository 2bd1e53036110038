"""Sentences, corpora and their entities, which both stages share.

:mod:`~backattn.corpus.formats` reads files of all kinds, :mod:`~backattn.corpus.tags` converts every tag
scheme to BIOES, :mod:`~backattn.corpus.spans` finds the entities, :mod:`~backattn.corpus.scoring` computes
F1, :mod:`~backattn.corpus.statistics` counts (the paper's Table 1), and
:mod:`~backattn.corpus.statistics_warnings` warns about likely mistakes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from backattn.common.digests import digest, sentence_key

_T = TypeVar("_T")

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Sentence:
    """A source sentence of m tokens with its BIOES tags.

    :param tokens: the m source tokens, exactly as in the file (words, or Chinese characters).
    :param tags: the m gold tags in BIOES.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("a sentence has at least one token")
        if len(self.tokens) != len(self.tags):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.tags)} tags")

    @cached_property
    def key(self) -> bytes:
        """The 32-byte key of the sentence in the stores; it depends on the tokens alone, not on the tags."""
        return sentence_key(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Corpus:
    """The three splits of a data set, in file order.

    :param documents: split -> number of document separators (``-DOCSTART-`` lines), where its format has
        them; they are not sentences, though the paper's Table 1 counts them for German.
    :param orphans: split -> number of tags that the format's ``orphans = "begin"`` corrected.
    :param comments: split -> number of comment lines that were passed over.
    :param no_tokens: split -> kind of other lines that are no tokens (multiword ranges, empty nodes of
        CoNLL-U) -> their number.
    :param sha256: split -> digest of the file that it was read from.
    """

    train: tuple[Sentence, ...]
    dev: tuple[Sentence, ...]
    test: tuple[Sentence, ...]
    documents: Mapping[str, int] = field(default_factory=dict)
    orphans: Mapping[str, int] = field(default_factory=dict)
    comments: Mapping[str, int] = field(default_factory=dict)
    no_tokens: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)

    def splits(self) -> Iterator[tuple[str, tuple[Sentence, ...]]]:
        """Yield ``(name, sentences)`` in the order train, dev, test."""
        for name in SPLITS:
            yield name, getattr(self, name)

    @cached_property
    def digest(self) -> str:
        """Digest of the tokens and tags of all sentences, in their order and splits."""
        return digest({name: [[s.tokens, s.tags] for s in sentences] for name, sentences in self.splits()})

    @cached_property
    def unique(self) -> tuple[Sentence, ...]:
        """The distinct token sequences, in the order of their first occurrence."""
        first = {sentence.key: sentence for sentence in reversed([*self.train, *self.dev, *self.test])}
        order = dict.fromkeys(s.key for s in [*self.train, *self.dev, *self.test])
        return tuple(first[key] for key in order)


def evenly_spread(items: Sequence[_T], limit: int) -> list[_T]:
    """Select at most ``limit`` items in their order, spread evenly over all of them; 0 selects all."""
    if limit < 0:
        raise ValueError(f"a limit is 0 or more, not {limit}")
    if not limit or len(items) <= limit:
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def first_sentences(corpus: Corpus, count: int) -> Corpus:
    """Return a corpus of the first sentences of each split."""
    train, dev, test = (sentences[:count] for _, sentences in corpus.splits())
    return replace(corpus, train=train, dev=dev, test=test)


def nested_sample(sentences: Sequence[Sentence], size: int) -> tuple[Sentence, ...]:
    """Draw a sample that every larger sample contains: the sentences of the smallest keys, in file order."""
    by_key = sorted(range(len(sentences)), key=lambda i: (sentences[i].key, i))
    return tuple(sentences[i] for i in sorted(by_key[:size]))
