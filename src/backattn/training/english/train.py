"""Train the English tagger (``backattn english train``) on column files, and measure its F1."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backattn.common.atomic_files import write_whole
from backattn.common.device import pick_device, threads_of_torch
from backattn.common.digests import file_digest
from backattn.common.errors import RecipeError
from backattn.common.progress import bar_disabled
from backattn.common.safe_text import quoted
from backattn.common.version import package_versions
from backattn.corpus import Corpus, Sentence
from backattn.corpus.scoring import count_types, entities, total
from backattn.embeddings.charlm import local_files, unpack_directions
from backattn.embeddings.charlm_hub import open_embeddings
from backattn.english import EnglishTagger
from backattn.english.flair import FlairTagger
from backattn.models.flair_serialisation import load_tagger
from backattn.models.training_manifest import read_report_as
from backattn.models.vouchers import Vouchers
from backattn.recipe import (
    EnglishCharLm,
    EnglishRecipe,
    EnglishTraining,
    as_json,
    cache_root,
    model_path,
    without_licences,
)
from backattn.training.charlm.text import Purpose
from backattn.training.charlm.train import make_request, train_models
from backattn.training.english.column_files import read_english_file
from backattn.training.english.flair_trainer import new_tagger, save_tagger, train_epoch
from backattn.training.epoch_files import EpochFiles, EpochMetrics
from backattn.training.training_job import TrainingJob, data_digest, result_folder

MODEL = "tagger.safetensors"
# Dev sentences that select the epoch, or up to twice as many: of a larger dev part every second, third, ...
# sentence is taken, since evaluating all would take as long as an epoch.
_DEV_SENTENCES = 2000
_CHARLM = "english.training.charlm"
_BATCH_TOKENS = 4000  # tokens per batch of the evaluation


@dataclass(frozen=True)
class F1:
    """Micro-averaged strict entity F1 in [0, 1], and F1 of each type."""

    f1: float
    types: Mapping[str, float]
    sentences: int


@dataclass(frozen=True, kw_only=True)
class EnglishEpoch(EpochMetrics):
    """Training loss and dev F1 of one epoch."""

    loss: float
    dev_f1: float

    def to_text(self) -> str:
        """The metrics for a progress line."""
        return f"loss {self.loss:.3f}, F1 {100 * self.dev_f1:.2f} on dev"


@dataclass(frozen=True)
class EnglishReport:
    """The figures of a trained English tagger, as its ``training.json`` keeps them.

    :param best_epoch: the epoch with the highest dev F1, of equals the last, from 1; its weights
        are the model.
    :param tests: F1 by held-out file.
    """

    folder: Path
    train_sentences: int
    train_tokens: int
    best_epoch: int
    dev: F1
    tests: Mapping[str, F1]
    epochs: tuple[EnglishEpoch, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "folder": str(self.folder)}

    def to_text(self) -> str:
        """The figures for a reader."""
        seconds = sum(epoch.seconds for epoch in self.epochs)
        lines = [
            f"{self.folder}: {self.train_sentences} sentences, {self.train_tokens} tokens, "
            f"{len(self.epochs)} epochs, {seconds:.0f} s; "
            f"F1 on dev {100 * self.dev.f1:.2f} (epoch {self.best_epoch})"
        ]
        for name, score in self.tests.items():
            types = ", ".join(f"{kind} {100 * f1:.2f}" for kind, f1 in score.types.items())
            lines.append(f"  {name}: F1 {100 * score.f1:.2f} on {score.sentences} sentences ({types})")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Data:
    """The sentences of a recipe's files by split; ``tests`` by file."""

    train: tuple[Sentence, ...]
    dev: tuple[Sentence, ...]
    tests: Mapping[str, tuple[Sentence, ...]]


def train_english(
    recipe: EnglishRecipe,
    *,
    lang: str,
    folder: Path,
    threads: int | None,
    progress: bool,
    replace: bool = False,
) -> EnglishReport:
    """Train the English tagger that a recipe describes and write it to ``folder``.

    A finished folder of the same recipe and data is left as it is. A killed training resumes after its last
    epoch and ends with the same numbers.

    :param lang: name of the recipe's file.
    :param threads: of torch; None leaves torch's own choice.
    :param progress: a bar over the epochs on standard error.
    :param replace: a finished folder of other settings or data is replaced when the new one is ready.
    :raises RecipeError: the recipe has no ``[english.training]``, names another model file, its files leave
        a split empty, another recipe has trained what lies there, or it is not to be replaced.
    :raises CorpusError, MissingError: an English file is malformed or not there.
    """
    training = recipe.training
    if training is None:
        raise RecipeError("english.training: missing table; expected how to train the English tagger")
    if Path(recipe.checkpoint).name != MODEL:
        raise RecipeError(
            f"english.checkpoint: expected a path that ends in {MODEL}, which is what a training writes; "
            f"found {quoted(recipe.checkpoint)}"
        )
    place = result_folder(folder, "english.checkpoint", "is no English tagger that was trained here")
    charlm = training.charlm
    _refuse_shared_folders(charlm, folder)
    read = cache(lambda: _read(training))
    settings = without_licences(as_json(training))
    del settings["charlm"]  # identified by content, wherever the models lie
    request = {
        "training": settings,
        "data": {file.path: data_digest(file.path) for file in training.files},
        "versions": package_versions(["flair"]),
        "charlm": _charlm_request(charlm, read()) if charlm else None,
    }
    job = TrainingJob(
        folder=place, request=request, lang=lang, packages=("backattn", "torch", "flair"), replace=replace
    )

    def prepare() -> _Data:
        if charlm and charlm.training:
            train_models(
                charlm.training,
                _purpose(read()),
                lang=lang,
                folder=model_path(charlm.checkpoint),
                threads=threads,
                progress=progress,
                replace=replace,
            )
        return read()

    with threads_of_torch(threads):
        job.run(
            prepare=prepare,
            train=lambda data, work: _train(data, training, work, progress),
            write=lambda data, epochs, result: _write(recipe, data, epochs, job, result),
        )
    return read_report(folder)


def read_report(folder: Path) -> EnglishReport:
    """The report of a finished folder.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged.
    """
    return read_report_as(EnglishReport, folder)


def entity_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> F1:
    """Strict F1 of BIOES tags; the predicted ones may be illegal."""
    types = count_types(entities(gold), entities(predicted))
    return F1(total(types.values()).f1, {kind: counts.f1 for kind, counts in types.items()}, len(gold))


def _read(training: EnglishTraining) -> _Data:
    train: list[Sentence] = []
    dev: list[Sentence] = []
    tests: dict[str, tuple[Sentence, ...]] = {}
    for file in training.files:
        folds = read_english_file(file)
        train += folds["train"]
        dev += folds["dev"]
        if folds["test"]:
            tests[file.path] = tuple(folds["test"])
    for name, found in (("train", train), ("dev", dev), ("test", tests)):
        if not found:
            raise RecipeError(
                f'english.training.files: no {name} sentences; give a file use = "{name}" or "split"'
            )
    step = max(1, len(dev) // _DEV_SENTENCES)
    return _Data(tuple(train), tuple(dev[::step]), tests)


def _refuse_shared_folders(charlm: EnglishCharLm | None, folder: Path) -> None:
    """Refuse language models in the tagger's folder or work folder, which are replaced and removed whole.

    :raises RecipeError: one folder lies in the other, or the language models have none of their own.
    """
    if charlm is None:
        return
    own, root = model_path(charlm.checkpoint).resolve(), cache_root().resolve()
    folders = [folder.resolve(), TrainingJob(folder=folder.resolve(), request={}).path]
    if own == root or any(own.is_relative_to(other) or other.is_relative_to(own) for other in folders):
        raise RecipeError(
            f"english.training.charlm.checkpoint: {own} is no folder apart from the tagger's ({folder}); "
            "name another one, as english-charlm"
        )


def _purpose(data: _Data) -> Purpose:
    """The corpus of the language models: the tagger's own sentences."""
    tests = tuple(sentence for sentences in data.tests.values() for sentence in sentences)
    corpus = Corpus(data.train, data.dev, tests)
    return Purpose(corpus=corpus, language="en", unit="word", key=_CHARLM)


def _charlm_request(charlm: EnglishCharLm, data: _Data) -> Any:
    """The request of language models that are trained here, or the digests of models from elsewhere."""
    if charlm.training is not None:
        return make_request(charlm.training, _purpose(data))
    files = _language_models(charlm)
    unpack_directions(files)
    return [sha256(model).hexdigest() for model, _ in files]


def _language_models(charlm: EnglishCharLm | None) -> list[tuple[bytes, str]]:
    """The files of the language models, each with its name."""
    if charlm is None:
        return []
    advice = (
        f"`backattn charlm train` makes such a folder, or `backattn english train` with a {_CHARLM}.training"
    )
    return local_files(model_path(charlm.checkpoint), advice)


def _train(data: _Data, training: EnglishTraining, work: Path, progress: bool) -> tuple[EnglishEpoch, ...]:
    """Train the epochs that are not finished yet, each into a model file of its own."""
    files = EpochFiles(work, EnglishEpoch)
    if done := len(files.finished()):
        tagger = files.load(done, load_tagger)
    else:
        charlm = [open_embeddings(model, name) for model, name in _language_models(training.charlm)]
        tagger = new_tagger(data.train, training, folder=work, language_models=charlm)
    device = pick_device("auto")
    bar = tqdm(
        total=training.epochs, initial=done, desc="english", unit="epoch", disable=bar_disabled(progress)
    )

    def train(epoch: int, path: Path) -> EnglishEpoch:
        loss = train_epoch(tagger, data.train, training, epoch=epoch, folder=work)
        reader = FlairTagger(tagger, name=MODEL, batch_tokens=_BATCH_TOKENS, device=device)
        dev = _evaluate(reader, data.dev)
        save_tagger(tagger, path)
        bar.set_postfix(loss=f"{loss:.3f}", dev=f"{100 * dev.f1:.2f}")
        bar.update()
        return EnglishEpoch(loss=loss, dev_f1=dev.f1)

    with bar:
        return files.train(training.epochs, train, progress=progress)


def _write(
    recipe: EnglishRecipe, data: _Data, epochs: tuple[EnglishEpoch, ...], job: TrainingJob, result: Path
) -> dict[str, Any]:
    """Write the model of the best epoch and measure it as it is opened from its file."""
    best = best_epoch(epochs)
    write_whole(result / MODEL, EpochFiles(job.path, EnglishEpoch).path(best).read_bytes())
    digest = file_digest(result / MODEL)
    device = pick_device("auto")
    tagger = FlairTagger.load(
        result / MODEL, sha256=digest, vouchers=Vouchers(), batch_tokens=_BATCH_TOKENS, device=device
    )
    report = EnglishReport(
        folder=job.folder,
        train_sentences=len(data.train),
        train_tokens=sum(map(len, data.train)),
        best_epoch=best,
        dev=_evaluate(tagger, data.dev),
        tests={name: _evaluate(tagger, sentences) for name, sentences in data.tests.items()},
        epochs=epochs,
    )
    return {"recipe": as_json(recipe), "report": report.to_json()}


def best_epoch(epochs: Sequence[EnglishEpoch]) -> int:
    """Number of the epoch with the highest dev F1, from 1; of equals, the last."""
    return max(range(1, len(epochs) + 1), key=lambda number: (epochs[number - 1].dev_f1, number))


def _evaluate(tagger: EnglishTagger, sentences: Sequence[Sentence]) -> F1:
    readings = tagger.read([sentence.tokens for sentence in sentences])
    return entity_f1([s.tags for s in sentences], [reading.tags for reading in readings])
