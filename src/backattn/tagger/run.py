"""The folder of a run, whose files are written so that a kill costs at most one epoch; and the finished run.

``run.json`` is written last: where it exists, the run is complete. No pickle anywhere. This module does not
import torch, so that finished runs are read quickly; tensors are read by
:mod:`~backattn.tagger.checkpoint_io`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from backattn.common.atomic_files import is_file, write_whole
from backattn.common.digests import canonical_json
from backattn.common.errors import MissingError, ModelError, RecipeError, StaleError
from backattn.common.json_files import parse, read_json_text, read_table
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import named_error_text, quoted
from backattn.corpus import Sentence
from backattn.corpus.scoring import Score
from backattn.recipe import EmbeddingName, SampleSize, TaggerRecipe
from backattn.recipe.constraints import Natural, NaturalNumber, Positive, Table
from backattn.recipe.conversion import convert
from backattn.tagger.frozen_features import Inputs

RUN_FORMAT = 1
ADVICE = "remove the folder and train again with `backattn train LANG`"
_EPOCHS = TaggerRecipe().epochs
# Inputs that include T from a store.
WITH_STORE = ("words+transfer", "transfer")


class TaggerFacts(Table, frozen=True, forbid_unknown_fields=False):
    """Keys of a run's tagger recipe that name the model and its size; the request holds all of them."""

    embeddings: tuple[EmbeddingName, ...]
    fusion: Literal["output", "input", "both", "gate"]
    word_dimensions: Natural
    characters: Literal["none", "cnn", "lstm"]
    epochs: Positive
    sentences: SampleSize


class RunFacts(Table, frozen=True, forbid_unknown_fields=False):
    """Typed values of a run's request.

    :param inputs: what the CRF reads: the row of Table 5.
    :param seed: seed of all random numbers.
    :param sentences: number of training sentences.
    :param corpus: digest of the corpus with its labels.
    :param transfer: id of the store of T, ``random-<width>``, or None for words alone.
    :param embeddings: id of the store of each kind of frozen features.
    """

    inputs: Inputs
    seed: Natural
    sentences: Positive
    corpus: str
    transfer: str | None
    embeddings: Mapping[EmbeddingName, str]
    tagger: TaggerFacts

    def __post_init__(self) -> None:
        if self.inputs in WITH_STORE and self.transfer is None:
            raise ValueError(
                f"transfer: expected the id of a store beside the inputs {self.inputs}, found none"
            )


class _Environment(Table, frozen=True, forbid_unknown_fields=False):
    device: str


class _Manifest(Table, frozen=True, forbid_unknown_fields=False):
    """The values of ``run.json`` that are checked before use; :class:`Score` checks its own."""

    request: RunFacts
    epochs: Positive
    best_epoch: Positive
    environment: _Environment
    seconds: NaturalNumber


class _EpochRow(Table, frozen=True, forbid_unknown_fields=False):
    dev_f1: Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    :param folder: folder of its files.
    :param request: everything that decides its numbers (inputs, seed, tagger recipe, corpus, stores).
    :param best_epoch: the epoch with the best F1 on dev, from 1; of equally good ones, the last. Weights and
        scores are those of this epoch.
    :param history: one row for each epoch, as in ``epochs.jsonl``.
    :param environment: versions, device and threads, for the record.
    :param seconds: time spent in epochs, over all processes that worked on the run.
    """

    folder: Path
    request: Mapping[str, Any]
    best_epoch: int
    dev: Score
    test: Score
    history: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    seconds: float

    @cached_property
    def facts(self) -> RunFacts:
        """Typed values of the request."""
        return msgspec.convert(self.request, RunFacts)

    @property
    def inputs(self) -> Inputs:
        """What the CRF reads: the row of Table 5."""
        return self.facts.inputs

    @property
    def seed(self) -> int:
        """The seed of all random numbers."""
        return self.facts.seed

    @property
    def sentences(self) -> int:
        """Number of training sentences."""
        return self.facts.sentences

    @property
    def store(self) -> str | None:
        """Id of the store of T that the run reads; None where it reads none."""
        return self.facts.transfer if self.inputs in WITH_STORE else None

    @property
    def learnt_nothing(self) -> bool:
        """Whether F1 is 0 on dev or on test although that split has entities."""
        return any(counts.support and not counts.tp for counts in (self.dev.overall, self.test.overall))

    @property
    def failure(self) -> str:
        """A line that says that the run has learnt nothing, and what may help; else empty."""
        scores = {"dev": self.dev.overall, "test": self.test.overall}
        missed = {
            split: counts.support for split, counts in scores.items() if counts.support and not counts.tp
        }
        if not missed:
            return ""
        tagger = self.facts.tagger
        ways = [f"for more epochs (--set tagger.epochs={_EPOCHS})"] if tagger.epochs < _EPOCHS else []
        ways.append(
            "on more labelled sentences" + ("" if tagger.sentences == "all" else " (--sentences all)")
        )
        return (
            f"F1 is 0 on {' and '.join(missed)}: none of the {sum(missed.values()):,} entities there is "
            f"tagged right after {trained_for(tagger.epochs, self.sentences)}; train {' or '.join(ways)}"
        )


def trained_for(epochs: int, sentences: int) -> str:
    """Describe the length of a training in words."""
    return (
        f"{epochs} epoch{'s' if epochs > 1 else ''} on {sentences:,} sentence{'s' if sentences > 1 else ''}"
    )


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run, and how each is written."""

    path: Path

    @property
    def lock(self) -> Path:
        """Lock file of the process that trains."""
        return self.path / "lock"

    @property
    def manifest(self) -> Path:
        """The finished run as JSON; written last."""
        return self.path / "run.json"

    @property
    def recipe(self) -> Path:
        """The whole recipe of the run, with the paths of the models."""
        return self.path / "recipe.json"

    @property
    def epochs(self) -> Path:
        """Metrics of each epoch, one JSON line each."""
        return self.path / "epochs.jsonl"

    @property
    def vocabulary(self) -> Path:
        """Words, characters and tags by number."""
        return self.path / "vocabulary.json"

    @property
    def weights(self) -> Path:
        """The weights of the best epoch on dev."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The state after the last epoch; gone when the run is complete."""
        return self.path / "checkpoint.safetensors"

    @property
    def evaluations(self) -> Path:
        """Folder of the scores on other files than the corpus'."""
        return self.path / "evaluations"

    def predictions(self, split: str) -> Path:
        """Columns token, gold tag, predicted tag; a blank line between sentences."""
        return self.path / f"predictions.{split}.tsv"

    def refuse_link(self) -> None:
        """Refuse a symbolic link to a folder without a finished run; called before anything is written.

        :raises ModelError: it is a link; the files at its target may belong to others.
        """
        if self.path.is_symlink() and not is_file(self.manifest):
            raise ModelError(
                f"{self.path}: is a link, expected the folder of a run; remove the link, then train again"
            )

    def write_run(self, run: Run) -> None:
        """Write ``run.json``, which marks the run as complete."""
        value = {
            "format": RUN_FORMAT,
            "request": run.request,
            "epochs": len(run.history),
            "best_epoch": run.best_epoch,
            "environment": run.environment,
            "seconds": run.seconds,
            "dev": run.dev.to_json(),
            "test": run.test.to_json(),
        }
        write_whole(self.manifest, (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8"))

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write ``epochs.jsonl`` anew."""
        lines = "".join(json.dumps(row) + "\n" for row in history)
        write_whole(self.epochs, lines.encode("utf-8"))

    def count_epochs(self) -> int:
        """Number of finished epochs, also of a run that another process trains."""
        return read_regular(self.epochs).count(b"\n") if is_file(self.epochs) else 0

    def write_predictions(
        self, split: str, gold: Sequence[Sentence], predicted: Sequence[Sequence[str]]
    ) -> None:
        """Write the predictions of a split."""
        blocks = (
            "".join(f"{row[0]}\t{row[1]}\t{row[2]}\n" for row in zip(s.tokens, s.tags, tags, strict=True))
            for s, tags in zip(gold, predicted, strict=True)
        )
        write_whole(self.predictions(split), "\n".join(blocks).encode("utf-8"))


def require_run(folder: Path) -> None:
    """Refuse a folder without a finished run, without reading it.

    :raises MissingError: there is no run, or it is not finished.
    """
    files = RunFolder(folder)
    if not is_file(files.manifest):
        state = "is not finished" if is_file(files.checkpoint) else "holds no run"
        raise MissingError(f"{folder}: {state}; `backattn train LANG` makes it")


def read_run(folder: Path) -> Run:
    """Read and check a finished run. All other modules get the values of ``run.json`` from here.

    :raises MissingError: there is no run, or it is not finished.
    :raises ModelError: the folder's files are damaged or of another version.
    """
    require_run(folder)
    files = RunFolder(folder)
    value = read_json(files.manifest)
    if value.get("format") != RUN_FORMAT:
        raise ModelError(
            f"{files.manifest}: format {quoted(value.get('format'))}, this program reads {RUN_FORMAT}; "
            f"{ADVICE}"
        )
    try:
        return _checked(files, value)
    except RecipeError as error:
        raise ModelError(f"{folder}: damaged run ({error}); {ADVICE}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError) as error:
        raise ModelError(f"{folder}: damaged run ({named_error_text(error)}); {ADVICE}") from None


def finished_run(folder: Path, request: Mapping[str, Any]) -> Run | None:
    """Read the run of this request; None if it is not complete. Does not import torch.

    :raises StaleError: the folder holds another run.
    :raises ModelError: its files are damaged.
    """
    files = RunFolder(folder)
    if not files.manifest.is_file():
        return None
    run = read_run(folder)
    check_request(folder, run.request, request)
    files.checkpoint.unlink(missing_ok=True)  # left behind by a kill after the manifest was written
    return run


def read_history(files: RunFolder) -> tuple[Mapping[str, Any], ...]:
    """Read the rows of ``epochs.jsonl``.

    :raises RecipeError, ValueError: the file is damaged.
    :raises OSError: the file cannot be read.
    """
    rows = tuple(parse(line) for line in read_json_text(files.epochs).splitlines())
    for row in rows:
        convert(_EpochRow, row, files.epochs.name)
    return rows


def _checked(files: RunFolder, value: Mapping[str, Any]) -> Run:
    """Check the values of ``run.json`` and ``epochs.jsonl``.

    :raises RecipeError: a value is missing, or of a wrong type or range.
    :raises ValueError, TypeError, KeyError, AttributeError: the same, found by another check.
    """
    facts = {key: part for key, part in value.items() if key not in ("dev", "test")}
    manifest = convert(_Manifest, facts, files.manifest.name)
    history = read_history(files)
    if not manifest.best_epoch <= manifest.epochs == len(history):
        raise ValueError(
            f"epoch {manifest.best_epoch} of {manifest.epochs} is best, "
            f"{files.epochs.name} has {len(history)}"
        )
    return Run(
        folder=files.path,
        request=value["request"],
        best_epoch=manifest.best_epoch,
        dev=Score.from_json(value["dev"]),
        test=Score.from_json(value["test"]),
        history=history,
        environment=value["environment"],
        seconds=manifest.seconds,
    )


def check_request(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare the request of a run with the expected one.

    :raises StaleError: they differ; the message names the keys.
    """
    differing = [
        key
        for key in sorted({*found, *wanted})
        if canonical_json(found.get(key)) != canonical_json(wanted.get(key))
    ]
    if differing:
        raise StaleError(
            f"{folder}: holds a run with another {', '.join(differing)}; remove the folder to train again"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON table of a run's folder.

    :raises MissingError: the file is missing.
    :raises ModelError: the file is damaged.
    """
    return read_table(path, ADVICE)
