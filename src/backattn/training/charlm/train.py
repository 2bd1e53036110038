"""Train character language models of both directions (``backattn charlm train``) and measure perplexity."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backattn.common.atomic_files import write_whole
from backattn.common.device import threads_of_torch
from backattn.common.digests import digest
from backattn.common.errors import CorpusError, ModelError, RecipeError
from backattn.common.progress import bar_disabled
from backattn.common.version import package_versions
from backattn.corpus.formats import read_corpus
from backattn.embeddings.charlm_hub import dump_model, load_model
from backattn.models.charlm_file import CHARACTER_MODEL, DIRECTIONS
from backattn.models.flair_config import FORMAT, SUFFIX
from backattn.models.training_manifest import read_report_as
from backattn.recipe import CharLmTraining, Recipe, as_json, without_licences
from backattn.training.charlm.flair_trainer import (
    negative_log_likelihood,
    new_model,
    pick_flair_device,
    train_epoch,
)
from backattn.training.charlm.text import MIN_COUNT, Purpose, Text, TextCounts, read_text
from backattn.training.epoch_files import EpochFiles, EpochMetrics
from backattn.training.training_job import TrainingJob, data_digest, result_folder

_LARGEST_LOSS = 100.0  # nats per character; a uniform guess over all of Unicode has 14


@dataclass(frozen=True, kw_only=True)
class CharLmEpoch(EpochMetrics):
    """Metrics of one epoch of one direction.

    :param perplexity: of a character of the training text, with dropout.
    :param dev_perplexity: of a character of the corpus' dev sentences, each read by itself.
    """

    perplexity: float
    dev_perplexity: float

    def to_text(self) -> str:
        """The metrics for a progress line."""
        return f"perplexity {self.dev_perplexity:.3f} on dev"


@dataclass(frozen=True)
class CharLmReport:
    """The figures of a trained pair of character language models, as ``training.json`` keeps them.

    :param sentences: lines of the training text, the corpus' training sentences among them.
    :param characters: of that text, with the end of each line.
    :param alphabet: number of characters of the models' vocabulary.
    :param unknown: how many characters of the text are not in it: each occurs less than :data:`MIN_COUNT`
        times.
    :param dev_characters, dev_unknown: the same of the dev sentences.
    :param files: counts of the lines of each file.
    :param epochs: of each direction; the weights of the lowest dev perplexity are the model.
    """

    folder: Path
    sentences: int
    characters: int
    alphabet: int
    unknown: int
    dev_characters: int
    dev_unknown: int
    files: tuple[TextCounts, ...]
    epochs: Mapping[str, tuple[CharLmEpoch, ...]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "folder": str(self.folder)}

    def to_text(self) -> str:
        """The figures for a reader."""
        all_epochs = [epoch for epochs in self.epochs.values() for epoch in epochs]
        seconds = sum(epoch.seconds for epoch in all_epochs)
        speed = self.characters * len(all_epochs) / max(seconds, 1e-9)
        lines = [
            f"{self.folder}: {self.sentences:,} sentences, {self.characters:,} characters; "
            f"{seconds:.0f} s ({speed:,.0f} characters/s)",
            f"  {self.alphabet:,} characters in the vocabulary; {self.unknown:,} of the text are unknown, "
            f"each seen less than {MIN_COUNT} times; in dev {self.dev_unknown:,} of {self.dev_characters:,}",
        ]
        for file in self.files:
            lines.append(
                f"  {file.path}: {file.kept:,} of {file.lines:,} lines; left out: {file.empty:,} empty, "
                f"{file.held_out:,} of dev and test, {file.over_limit:,} by the limit"
            )
        for direction, epochs in self.epochs.items():
            number = best_epoch(epochs)
            lines.append(
                f"  {direction}: perplexity of a character {epochs[number].dev_perplexity:.3f} on dev, "
                f"{epochs[number].perplexity:.3f} in training (epoch {number + 1} of {len(epochs)})"
            )
        return "\n".join(lines)


def train_charlm(
    recipe: Recipe, *, folder: Path, threads: int | None, progress: bool, replace: bool = False
) -> CharLmReport:
    """Train the character language models of ``[embeddings.charlm]``, as :func:`train_models` does.

    :raises RecipeError: the recipe has no ``[embeddings.charlm.training]`` or names no folder.
    """
    charlm = recipe.embeddings.charlm
    if charlm is None or charlm.training is None:
        raise RecipeError(
            f"recipe {recipe.name}: no [embeddings.charlm.training]: expected the table "
            "that says how to train character language models"
        )
    if not charlm.checkpoint:
        raise RecipeError(
            f"recipe {recipe.name}: embeddings.charlm.checkpoint: missing key; expected the folder for the "
            "result"
        )
    purpose = Purpose(
        corpus=read_corpus(recipe.corpus),
        language=recipe.translator.source,
        unit=recipe.corpus.unit,
        key="embeddings.charlm",
    )
    return train_models(
        charlm.training,
        purpose,
        lang=recipe.name,
        folder=folder,
        threads=threads,
        progress=progress,
        replace=replace,
    )


def train_models(
    training: CharLmTraining,
    purpose: Purpose,
    *,
    lang: str,
    folder: Path,
    threads: int | None,
    progress: bool,
    replace: bool = False,
) -> CharLmReport:
    """Train both directions of a character language model and write them to ``folder``.

    A finished folder of the same recipe and data is left as it is. A killed training resumes after the last
    finished epoch of its direction and ends with the same numbers.

    :param lang: name of the recipe.
    :param threads: of torch; None leaves torch's own choice.
    :param progress: bars on standard error: over the lines to split, then over the characters to read.
    :param replace: a finished folder of other settings or data is replaced when the new one is ready.
    :raises RecipeError: the folder or the work folder belong to something else, or the folder is not to be
        replaced.
    :raises ModelError: what an earlier training left is damaged, or this one diverged.
    :raises CorpusError, MissingError: a file is malformed, too short or not there.
    :raises BusyError: another process trains into the same folder.
    """
    job = TrainingJob(
        folder=result_folder(
            folder,
            f"{purpose.key}.checkpoint",
            "holds no character language models that were trained here",
        ),
        request=make_request(training, purpose),
        lang=lang,
        packages=("backattn", "torch", "flair", "sacremoses"),
        replace=replace,
    )

    def prepare() -> Text:
        text = read_text(training.files, purpose, progress=progress)
        _require_enough(text, training, purpose.key)
        return text

    with threads_of_torch(threads):
        job.run(
            prepare=prepare,
            train=lambda text, work: _train(text, training, work, progress),
            write=lambda text, epochs, result: _write(training, text, epochs, job, result),
        )
    return read_report(folder)


def read_report(folder: Path) -> CharLmReport:
    """The report of a finished folder.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged.
    """
    return read_report_as(CharLmReport, folder)


def best_epoch(epochs: tuple[CharLmEpoch, ...]) -> int:
    """Number of the epoch with the lowest dev perplexity, from 0; of equals, the last."""
    return min(range(len(epochs)), key=lambda i: (epochs[i].dev_perplexity, -i))


def _require_enough(text: Text, training: CharLmTraining, key: str) -> None:
    """Refuse a text shorter than two characters for each sequence of a batch, which flair needs."""
    if _characters(text.train) < 2 * training.batch:
        raise CorpusError(
            f"the training text has {_characters(text.train)} characters, expected at least "
            f"{2 * training.batch}; add files to {key}.training, or lower its batch"
        )


def _train(
    text: Text, training: CharLmTraining, work: Path, progress: bool
) -> dict[str, tuple[CharLmEpoch, ...]]:
    """Train the epochs that are not finished yet, each into a model file of its own."""
    pick_flair_device()
    files = {direction: EpochFiles(work, CharLmEpoch, direction) for direction in DIRECTIONS}
    size = _characters(text.train)
    done = sum(len(own.finished()) for own in files.values())
    bar = tqdm(
        total=len(DIRECTIONS) * training.epochs * size,
        initial=done * size,
        unit="character",
        unit_scale=True,
        disable=bar_disabled(progress),
    )
    with bar:
        return {d: _train_direction(own, text, training, bar, progress) for d, own in files.items()}


def _train_direction(
    files: EpochFiles[CharLmEpoch], text: Text, training: CharLmTraining, bar: "tqdm[Any]", progress: bool
) -> tuple[CharLmEpoch, ...]:
    bar.set_description(files.name)
    if done := len(files.finished()):
        model = files.load(done, load_model)
    else:
        model = new_model(text.alphabet, training, forward=files.name == DIRECTIONS[0])

    def train(epoch: int, path: Path) -> CharLmEpoch:
        loss = train_epoch(model, text.train, training, epoch=epoch, folder=files.work, advance=bar.update)
        write_whole(path, dump_model(model, str(path)))
        total, characters = negative_log_likelihood(model, text.dev)
        metrics = CharLmEpoch(
            perplexity=_perplexity(loss, path), dev_perplexity=_perplexity(total / characters, path)
        )
        bar.set_postfix(dev=f"{metrics.dev_perplexity:.3f}")
        return metrics

    return files.train(training.epochs, train, progress=progress)


def _perplexity(loss: float, path: Path) -> float:
    """Compute the perplexity of a character from its loss in nats.

    :raises ModelError: the training diverged.
    """
    if loss > _LARGEST_LOSS:
        raise ModelError(
            f"{path}: its training diverged (a loss of {loss:.0f} nats a character); delete "
            f"{path.parent} and lower the learning_rate of that training"
        )
    return math.exp(loss)


def _write(
    training: CharLmTraining,
    text: Text,
    epochs: Mapping[str, tuple[CharLmEpoch, ...]],
    job: TrainingJob,
    result: Path,
) -> dict[str, Any]:
    """Write the model of each direction's best epoch."""
    for direction, own in epochs.items():
        data = EpochFiles(job.path, CharLmEpoch, direction).load(best_epoch(own) + 1, _checked)
        write_whole(result / f"{direction}{SUFFIX}", data)
    known = set(text.alphabet)
    report = CharLmReport(
        folder=job.folder,
        sentences=len(text.train),
        characters=_characters(text.train),
        alphabet=len(text.alphabet),
        unknown=sum(count for character, count in text.counts.items() if character not in known),
        dev_characters=_characters(text.dev),
        dev_unknown=sum(character not in known for line in text.dev for character in line),
        files=text.files,
        epochs=epochs,
    )
    return {"recipe": as_json(training), "report": report.to_json()}


def _checked(data: bytes, name: str) -> bytes:
    """Check that bytes are a character language model, and return them.

    :raises ModelError: they are no character language model.
    """
    CHARACTER_MODEL.unpack(data, name)
    return data


def _characters(lines: tuple[str, ...]) -> int:
    """The number of characters of lines, with the end of each."""
    return sum(map(len, lines)) + len(lines)


def make_request(training: CharLmTraining, purpose: Purpose) -> dict[str, Any]:
    """Everything that the numbers of a training depend on, down to digests of the tokens and the files."""
    return {
        "format": FORMAT,
        "training": without_licences(as_json(training)),
        # Only the tokens, which are all that is read. Test sentences matter where files could contain them.
        "corpus": {
            split: digest([sentence.tokens for sentence in sentences])
            for split, sentences in purpose.corpus.splits()
            if split != "test" or training.files
        },
        "unit": purpose.unit,
        "language": purpose.language,
        "data": {file.path: data_digest(file.path) for file in training.files},
        "versions": package_versions(["flair", "sacremoses"]),
    }
