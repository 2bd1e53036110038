"""Statistics of a corpus in the form of the paper's Table 1, with counts of entities and tags."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backattn.common.safe_text import printable
from backattn.corpus import Corpus, Sentence
from backattn.corpus.spans import spans
from backattn.corpus.tags import split_tag


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one split.

    :param sentences, tokens: as in the paper's Table 1; document separators are not sentences.
    :param longest: number of tokens of the longest sentence.
    :param entities: type -> number of entities, sorted by type.
    :param tags: BIOES tag -> number of tokens, sorted by type, ``O`` first.
    :param documents: document separators (``-DOCSTART-``); Table 1 adds them to German's sentences.
    :param orphans: I- tags without an entity to continue, which were read as the beginning of one.
    :param no_tokens: what else is no token (multiword ranges, empty nodes of CoNLL-U) -> how many.
    :param in_train: sentences of dev or test whose tokens are also a sentence of train.
    """

    sentences: int
    tokens: int
    longest: int
    entities: Mapping[str, int]
    tags: Mapping[str, int]
    documents: int
    orphans: int
    no_tokens: Mapping[str, int]
    in_train: int


@dataclass(frozen=True)
class CorpusStatistics:
    """Counts of the three splits.

    :param splits: name of a split -> its counts, in the order train, dev, test.
    :param unique: number of distinct token sequences in all splits: the sentences that stage one translates.
    """

    splits: Mapping[str, SplitStatistics]
    unique: int

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """The counts as a text table with one column per split."""
        rows = [("", list(self.splits)), *((name, list(map(str, counts))) for name, counts in self._rows())]
        first = max(len(name) for name, _ in rows)
        width = 2 + max(len(cell) for _, cells in rows for cell in cells)
        lines = [f"{name:<{first}}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows]
        return "\n".join([*lines, f"{self.unique} different sentences"])

    def _rows(self) -> Iterator[tuple[str, list[int]]]:
        splits = list(self.splits.values())
        yield "sentences", [split.sentences for split in splits]
        if any(split.documents for split in splits):
            yield "document separators", [split.documents for split in splits]
            yield "both (as Table 1 counts)", [split.sentences + split.documents for split in splits]
        yield "tokens", [split.tokens for split in splits]
        yield "longest sentence", [split.longest for split in splits]
        yield "entities", [sum(split.entities.values()) for split in splits]
        for kind in sorted({kind for split in splits for kind in split.entities}):
            yield f"  {printable(kind)}", [split.entities.get(kind, 0) for split in splits]
        yield "different tags", [len(split.tags) for split in splits]
        for tag in sorted({tag for split in splits for tag in split.tags}, key=_order):
            yield f"  {printable(tag)}", [split.tags.get(tag, 0) for split in splits]
        for name in sorted({name for split in splits for name, found in split.no_tokens.items() if found}):
            yield name, [split.no_tokens.get(name, 0) for split in splits]
        if any(split.orphans for split in splits):
            yield "I- read as a beginning", [split.orphans for split in splits]
        if any(split.in_train for split in splits):
            yield "sentences also in train", [split.in_train for split in splits]


def corpus_statistics(corpus: Corpus) -> CorpusStatistics:
    """Count a corpus."""
    train = {sentence.key for sentence in corpus.train}
    return CorpusStatistics(
        splits={
            name: _count(
                sentences,
                documents=corpus.documents.get(name, 0),
                orphans=corpus.orphans.get(name, 0),
                no_tokens=corpus.no_tokens.get(name, {}),
                in_train=0 if name == "train" else sum(sentence.key in train for sentence in sentences),
            )
            for name, sentences in corpus.splits()
        },
        unique=len(corpus.unique),
    )


def _count(
    sentences: tuple[Sentence, ...],
    *,
    documents: int,
    orphans: int,
    no_tokens: Mapping[str, int],
    in_train: int,
) -> SplitStatistics:
    tags = Counter(tag for sentence in sentences for tag in sentence.tags)
    entities = Counter(span.type for sentence in sentences for span in spans(sentence.tags))
    return SplitStatistics(
        sentences=len(sentences),
        tokens=tags.total(),
        longest=max(map(len, sentences), default=0),
        entities={kind: entities[kind] for kind in sorted(entities)},
        tags={tag: tags[tag] for tag in sorted(tags, key=_order)},
        documents=documents,
        orphans=orphans,
        no_tokens=no_tokens,
        in_train=in_train,
    )


def _order(tag: str) -> tuple[str, int]:
    """Sort key of tags: by type, then in the order B, I, E, S; ``O`` first."""
    prefix, kind = split_tag(tag)
    return kind, "OBIES".find(prefix)
