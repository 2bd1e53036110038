"""Read the training text of character language models: one sentence a line, tokens separated by spaces."""

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from backattn.common.errors import CorpusError
from backattn.common.progress import bar_disabled
from backattn.common.text_lines import BYTE_ORDER_MARK, text_lines
from backattn.corpus import Corpus, Sentence, evenly_spread
from backattn.recipe import TextFile, Unit, data_path
from backattn.translation.tokenisation import letters, tokenise

# Rarer characters become "unknown", so that a model learns to read characters outside of its vocabulary.
MIN_COUNT = 3


@dataclass(frozen=True, kw_only=True)
class TextCounts:
    """Counts of the lines of one file of text; they add up to ``lines``.

    :param kept: lines that are trained on.
    :param empty: lines without any token.
    :param over_limit: lines that the recipe's ``limit`` leaves out.
    :param held_out: lines left out because their letters are those of a dev or test sentence of the corpus.
    """

    path: str
    lines: int
    kept: int
    empty: int
    over_limit: int
    held_out: int


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What a character language model is trained for.

    :param corpus: its training sentences are part of the text, its dev sentences measure the perplexity, and
        dev and test sentences are removed from the other files.
    :param language: of the text, for Moses.
    :param key: of the recipe's table that describes the models, for messages.
    """

    corpus: Corpus
    language: str
    unit: Unit
    key: str


@dataclass(frozen=True)
class Text:
    """The training and dev text of a character language model.

    :param train: the corpus' training sentences, then the kept lines of the files in their order.
    :param dev: the corpus' dev sentences.
    """

    train: tuple[str, ...]
    dev: tuple[str, ...]
    files: tuple[TextCounts, ...]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each character occurs in the training text."""
        found: Counter[str] = Counter()
        for line in self.train:
            found.update(line)
        return found

    @cached_property
    def alphabet(self) -> tuple[str, ...]:
        """The characters of a model's vocabulary, those between tokens and between lines first."""
        known = (c for c, count in self.counts.items() if count >= MIN_COUNT and c not in " \n")
        return (" ", "\n", *sorted(known))


def read_text(files: tuple[TextFile, ...], purpose: Purpose, *, progress: bool) -> Text:
    """Join the corpus' training sentences and the lines of files, tokenised like the corpus.

    :param progress: a bar over the lines of each file on standard error.
    :raises CorpusError: a line of a file has too few columns, or is not UTF-8.
    :raises MissingError: a file is not there.
    """
    corpus = purpose.corpus
    held_out = held_out_text(corpus)
    train = [_line(sentence) for sentence in corpus.train]
    counts = []
    for file in files:
        lines = list(_cells(file, purpose.key))
        kept, count = tokenised(lines, file.path, file.limit, purpose, held_out, progress=progress)
        train += kept
        counts.append(count)
    return Text(tuple(train), tuple(map(_line, corpus.dev)), tuple(counts))


def held_out_text(corpus: Corpus) -> Set[str]:
    """Collect the letters of each dev and test sentence, which no training text may contain."""
    return {letters(_line(sentence)) for sentence in (*corpus.dev, *corpus.test)}


def tokenised(
    raw: Sequence[str], path: str, limit: int, purpose: Purpose, held_out: Set[str], *, progress: bool
) -> tuple[list[str], TextCounts]:
    """Tokenise the lines of a file like the corpus, and leave out those that are held out; count them.

    :param limit: largest number of lines, taken evenly; 0 for all.
    """
    full = [line for line in raw if line]
    sample = evenly_spread(full, limit)
    bar = tqdm(sample, desc=f"tokenise {Path(path).name}", unit="line", disable=bar_disabled(progress))
    lines = [" ".join(tokenise(line, purpose.language, purpose.unit)) for line in bar]
    tokens = [line for line in lines if line]  # Moses makes no token of zero-width spaces
    kept = [line for line in tokens if letters(line) not in held_out]
    return kept, TextCounts(
        path=path,
        lines=len(raw),
        kept=len(kept),
        empty=len(raw) - len(full) + len(lines) - len(tokens),
        over_limit=len(full) - len(sample),
        held_out=len(tokens) - len(kept),
    )


def _line(sentence: Sentence) -> str:
    return " ".join(sentence.tokens)


def _cells(file: TextFile, key: str) -> Iterator[str]:
    """The sentence of each line, without surrounding white space."""
    path = data_path(file.path)
    remedy = (
        "put the text there, set BACKATTN_DATA to the folder that holds it, or take the file out of "
        f"{key}.training.files"
    )
    for number, line in text_lines(path, remedy):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not (file.header and number == 1):
            yield _cell(line, file.column, f"{path}:{number}", key).strip()


def _cell(line: str, column: int, where: str, key: str) -> str:
    if column < 0:
        return line
    cells = line.split("\t")
    if len(cells) <= column:
        raise CorpusError(
            f"{where}: expected at least {column + 1} columns separated by tabs, found {len(cells)}; mend "
            f"the line, or the file's column in {key}.training.files"
        )
    return cells[column]
