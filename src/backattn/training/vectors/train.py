"""Train fastText vectors (``backattn vectors train``) and count what they cover of the corpus."""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import write_whole
from backattn.common.digests import digest
from backattn.common.errors import CorpusError, RecipeError
from backattn.common.version import package_versions
from backattn.corpus import Sentence
from backattn.corpus.formats import read_corpus
from backattn.embeddings.fasttext import lookup_forms
from backattn.embeddings.fasttext_binary import FastTextBinary
from backattn.models.model_digests import VECTORS
from backattn.models.training_manifest import read_report_as
from backattn.recipe import FastTextTraining, Recipe, as_json, without_licences
from backattn.recipe.file_keys import file_keys
from backattn.training.charlm.text import Purpose, TextCounts, held_out_text, read_text, tokenised
from backattn.training.epoch_files import EpochFiles, EpochMetrics
from backattn.training.training_job import TrainingJob, data_digest, result_folder
from backattn.training.translator.parallel_corpus import read_pairs
from backattn.training.vectors.gensim_trainer import Vectors

_KEY = "embeddings.fasttext"
_FORMAT = 1  # raised when a training makes something else of the same request


@dataclass(frozen=True, kw_only=True)
class VectorsEpoch(EpochMetrics):
    """Metrics of one epoch.

    :param tokens: of the text.
    """

    tokens: int

    def to_text(self) -> str:
        """The metrics for a progress line."""
        return f"{self.tokens:,} tokens"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a part of the corpus has vectors of its own; the rest is made of n-grams.

    A token is known if any of its normalised forms is.

    :param types: number of different tokens.
    """

    tokens: int
    known_tokens: int
    types: int
    known_types: int

    def to_text(self) -> str:
        """The counts with percentages."""
        return (
            f"{_share(self.known_tokens, self.tokens)} tokens, {_share(self.known_types, self.types)} types"
        )


@dataclass(frozen=True)
class VectorsReport:
    """The figures of trained vectors, as ``training.json`` keeps them.

    :param sentences: lines of the training text, the corpus' training sentences among them.
    :param tokens: of that text.
    :param words: size of the vocabulary.
    :param rare: different tokens of the text that are too rare for it.
    :param threads: number of threads that trained; with more than one, the numbers are not reproducible.
    :param files: counts of the lines of each file.
    :param coverage: of each part of the corpus.
    """

    folder: Path
    sentences: int
    tokens: int
    words: int
    rare: int
    threads: int
    files: tuple[TextCounts, ...]
    coverage: Mapping[str, Coverage]
    epochs: tuple[VectorsEpoch, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "folder": str(self.folder)}

    def to_text(self) -> str:
        """The figures for a reader."""
        seconds = sum(epoch.seconds for epoch in self.epochs)
        speed = self.tokens * len(self.epochs) / max(seconds, 1e-9)
        lines = [
            f"{self.folder}: {self.sentences:,} sentences, {self.tokens:,} tokens; "
            f"{len(self.epochs)} epochs, {seconds:.0f} s ({speed:,.0f} tokens/s)",
            f"  {self.words:,} words in the vocabulary; {self.rare:,} are too rare for it and have n-grams "
            "only",
        ]
        for file in self.files:
            lines.append(
                f"  {file.path}: {file.kept:,} of {file.lines:,} lines; left out: {file.empty:,} empty, "
                f"{file.held_out:,} of dev and test, {file.over_limit:,} by the limit"
            )
        for split, coverage in self.coverage.items():
            lines.append(f"  in the vocabulary of {split}: {coverage.to_text()}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Text:
    """The training text, and how often each token occurs in it."""

    sentences: tuple[list[str], ...]
    files: tuple[TextCounts, ...]
    counts: Counter[str]


def train_vectors(
    recipe: Recipe, *, folder: Path, threads: int | None, progress: bool, replace: bool = False
) -> VectorsReport:
    """Train the vectors of ``[embeddings.fasttext]`` and write them to ``folder``.

    A finished folder of the same recipe and data is left as it is. A killed training resumes after the last
    finished epoch and, with one thread, ends with the same numbers.

    :param threads: of gensim; None for one.
    :param progress: bars on standard error over the lines to split, then a line for each epoch.
    :param replace: a finished folder of other settings or data is replaced when the new one is ready.
    :raises RecipeError: the recipe has no ``[embeddings.fasttext.training]``, the folder or the work folder
        belong to something else, or the folder is not to be replaced.
    :raises ModelError: what an earlier training left is damaged, or this one diverged.
    :raises CorpusError, MissingError: a file is malformed, without text or not there.
    :raises BusyError: another process trains into the same folder.
    """
    fasttext, workers = recipe.embeddings.fasttext, threads or 1
    if fasttext is None or fasttext.training is None:
        raise RecipeError(
            f"recipe {recipe.name}: no [{_KEY}.training]: expected the table that says how to train fastText "
            "vectors"
        )
    training = fasttext.training
    purpose = Purpose(
        corpus=read_corpus(recipe.corpus),
        language=recipe.translator.source,
        unit=recipe.corpus.unit,
        key=_KEY,
    )
    job = TrainingJob(
        folder=result_folder(
            folder, f"{_KEY}.checkpoint", "holds no fastText vectors that were trained here"
        ),
        request=make_request(recipe, training, purpose),
        lang=recipe.name,
        packages=("backattn", "gensim", "numpy", "sacremoses"),
        replace=replace,
    )
    job.run(
        prepare=lambda: _read(recipe, training, purpose, progress),
        train=lambda text, work: _train(text, training, work, workers, progress),
        write=lambda text, trained, result: _write(
            training, text, purpose, *trained, workers, job.folder, result
        ),
    )
    return read_report(folder)


def read_report(folder: Path) -> VectorsReport:
    """The report of a finished folder.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged.
    """
    return read_report_as(VectorsReport, folder)


def make_request(recipe: Recipe, training: FastTextTraining, purpose: Purpose) -> dict[str, Any]:
    """Everything that the numbers of a training depend on, down to digests of the tokens and the files."""
    tables = (training, recipe.parallel_text)
    return {
        "format": _FORMAT,
        "training": without_licences(as_json(training)),
        "parallel": [without_licences(as_json(file)) for file in recipe.parallel_text],
        # Only the tokens, which are all that is read.
        "corpus": {
            split: digest([sentence.tokens for sentence in sentences])
            for split, sentences in purpose.corpus.splits()
        },
        "unit": purpose.unit,
        "language": purpose.language,
        "data": {path: data_digest(path) for table in tables for _, path in file_keys(table, "")},
        "versions": package_versions(["gensim", "sacremoses"]),
    }


def _read(recipe: Recipe, training: FastTextTraining, purpose: Purpose, progress: bool) -> _Text:
    """Read the corpus' training sentences, the foreign sides of the pairs, and the files of the recipe.

    :raises CorpusError: no word is frequent enough for the vocabulary.
    """
    text, held_out = read_text(training.files, purpose, progress=progress), held_out_text(purpose.corpus)
    lines, files = [*text.train], [*text.files]
    for file in recipe.parallel_text:
        foreign = list(dict.fromkeys(pair.foreign for pair in read_pairs(file)[0]))
        kept, counts = tokenised(foreign, file.path, 0, purpose, held_out, progress=progress)
        lines += kept
        files.append(counts)
    # A zero byte ends a word in fastText's binary format.
    sentences = [[token for token in line.split(" ") if token and "\0" not in token] for line in lines]
    found = Counter(token for tokens in sentences for token in tokens)
    if max(found.values(), default=0) < training.min_count:
        raise CorpusError(
            f"no word occurs {training.min_count} times in the text of {len(lines):,} sentences; add files "
            f"to {_KEY}.training, or lower its min_count"
        )
    return _Text(tuple(sentences), tuple(files), found)


def _train(
    text: _Text, training: FastTextTraining, work: Path, workers: int, progress: bool
) -> tuple[Vectors, tuple[VectorsEpoch, ...]]:
    """Train the epochs that are not finished yet; each leaves its numbers in the work folder."""
    files = EpochFiles(work, VectorsEpoch)
    vectors = Vectors(text.sentences, training, workers)
    if done := len(files.finished()):
        files.load(done, vectors.restore)

    def train(epoch: int, path: Path) -> VectorsEpoch:
        vectors.train_epoch(epoch)
        write_whole(path, vectors.dump())
        # The file before the previous one. A kill before the log is written resumes from the previous file.
        files.path(epoch - 1).unlink(missing_ok=True)
        return VectorsEpoch(tokens=text.counts.total())

    epochs = files.train(training.epochs, train, progress=progress)
    return vectors, epochs


def _write(
    training: FastTextTraining,
    text: _Text,
    purpose: Purpose,
    vectors: Vectors,
    epochs: tuple[VectorsEpoch, ...],
    workers: int,
    folder: Path,
    result: Path,
) -> dict[str, Any]:
    vectors.write(result / VECTORS)
    FastTextBinary(result / VECTORS)  # checks that the file can be opened
    known = vectors.vocabulary
    report = VectorsReport(
        folder=folder,
        sentences=len(text.sentences),
        tokens=text.counts.total(),
        words=len(known),
        rare=len(text.counts.keys() - known),
        threads=workers,
        files=text.files,
        coverage={split: coverage(sentences, known) for split, sentences in purpose.corpus.splits()},
        epochs=epochs,
    )
    return {"recipe": as_json(training), "report": report.to_json()}


def coverage(sentences: Iterable[Sentence], vocabulary: Set[str]) -> Coverage:
    """Count the tokens and types of sentences that a vocabulary has, in any of their normalised forms."""
    counts = Counter(token for sentence in sentences for token in sentence.tokens)
    known = {token for token in counts if any(form in vocabulary for form in lookup_forms(token))}
    return Coverage(
        tokens=counts.total(),
        known_tokens=sum(counts[token] for token in known),
        types=len(counts),
        known_types=len(known),
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f}% of {whole:,}"
