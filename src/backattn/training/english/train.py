"""``backattn english train``: English column files -> a tagger's folder, with its F1 on held-out text.

All work lies in ``<folder>.work/`` until the end, one model file an epoch, so that a killed training
goes on; the result folder appears whole, its manifest written last.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backattn.common.atomic_files import write_whole, write_whole_text
from backattn.common.device import pick_device, threads_of_torch
from backattn.common.digests import file_digest
from backattn.common.errors import MissingError, RecipeError
from backattn.common.json_files import parse
from backattn.common.progress import bar_disabled, log_line
from backattn.common.safe_text import quoted
from backattn.corpus import Corpus, Sentence
from backattn.corpus.scoring import count_types, entities, total
from backattn.embeddings.charlm import local_files, unpack_directions
from backattn.embeddings.charlm_hub import open_embeddings
from backattn.english import EnglishTagger
from backattn.english.flair import FlairTagger
from backattn.models.safetensors_model import SUFFIX
from backattn.models.training_manifest import MANIFEST, damage_as_model_error, read_manifest
from backattn.models.vouchers import Vouchers
from backattn.recipe import EnglishCharLm, EnglishRecipe, EnglishTraining, as_json, cache_root, model_path
from backattn.training.charlm.text import Purpose
from backattn.training.charlm.train import make_request, train_models
from backattn.training.english.column_files import read_english_file
from backattn.training.english.flair_trainer import load_own_tagger, new_tagger, save_tagger, train_epoch
from backattn.training.training_job import WorkFolder, data_digest, real_folder, refuse_strange_folder

MODEL, _STATE = "tagger.safetensors", "epochs.json"
_FIGURES = ("loss", "dev_f1", "seconds")  # of an epoch
# The dev sentences that choose the epoch: enough to choose by, few enough not to cost an epoch.
_DEV_LIMIT = 2000
_CHARLM = "english.training.charlm"
_BATCH_TOKENS = 4000  # English tokens read at a time when it is evaluated


@dataclass(frozen=True)
class F1:
    """Micro-averaged strict entity F1 in [0, 1], and F1 of each type."""

    f1: float
    types: Mapping[str, float]
    sentences: int


@dataclass(frozen=True)
class EnglishReport:
    """The figures of a trained English tagger, as its ``training.json`` keeps them.

    :param tests: F1 by held-out file.
    :param epochs: loss, dev F1 and seconds of each epoch.
    """

    folder: Path
    train_sentences: int
    train_tokens: int
    best_epoch: int
    dev: F1
    tests: Mapping[str, F1]
    epochs: tuple[Mapping[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "folder": str(self.folder)}

    def to_text(self) -> str:
        """The figures for a reader."""
        seconds = sum(epoch["seconds"] for epoch in self.epochs)
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

    A finished folder of the same recipe and data is left as it is. A training that was killed goes on
    from its last epoch and ends with the same numbers.

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
        raise RecipeError("english.training: the recipe says nothing about training an English tagger")
    if Path(recipe.checkpoint).name != MODEL:
        raise RecipeError(
            f"english.checkpoint: expected a path that ends in {MODEL}, which is what a training writes; "
            f"found {quoted(recipe.checkpoint)}"
        )
    place = real_folder(folder)
    refuse_strange_folder(place, MANIFEST, "is no English tagger that was trained here", "english.checkpoint")
    _refuse_shared_folders(training.charlm, folder)
    read = cache(lambda: _read(training))
    settings = as_json(training)
    del settings["charlm"]  # a training without them is the one that it was before there were any
    request = {
        "training": settings,
        "data": {file.path: data_digest(file.path) for file in training.files},
        "version": version("flair"),
        **({"charlm": _what_they_are(training.charlm, read())} if training.charlm else {}),
    }
    work = WorkFolder(folder=place, request=request, lang=lang, replace=replace)
    with work.locked(), threads_of_torch(threads):
        if work.needed():
            data = read()
            # First: what cannot be made leaves no unfinished training behind.
            if training.charlm is not None and training.charlm.training is not None:
                train_models(
                    training.charlm.training,
                    _purpose(data),
                    lang=lang,
                    folder=model_path(training.charlm.checkpoint),
                    threads=threads,
                    progress=progress,
                    replace=replace,
                )
            epochs = _train(data, training, work.claim(), progress)
            _finish(recipe, data, work, epochs)
    if not (folder / MODEL).is_file():
        raise MissingError(
            f"{folder / MODEL}: not there, but its training has ended; make it from the flair file that an "
            f"older version wrote there (`backattn english convert`), or remove {folder} to train anew"
        )
    return read_report(folder)


def read_report(folder: Path) -> EnglishReport:
    """The report of a finished folder.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged.
    """
    manifest = read_manifest(folder)
    with damage_as_model_error(folder / MANIFEST):
        value = manifest["report"]
        return EnglishReport(
            folder=folder,
            train_sentences=value["train_sentences"],
            train_tokens=value["train_tokens"],
            best_epoch=value["best_epoch"],
            dev=F1(**value["dev"]),
            tests={name: F1(**score) for name, score in value["tests"].items()},
            epochs=tuple(value["epochs"]),
        )


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
    step = max(1, len(dev) // _DEV_LIMIT)
    return _Data(tuple(train), tuple(dev[::step]), tests)


def _refuse_shared_folders(charlm: EnglishCharLm | None, folder: Path) -> None:
    """What is trained takes the place of its folder, with all that lies there, and the work folder goes.

    :raises RecipeError: the tagger's folders and the language models' lie in each other, or these nowhere.
    """
    if charlm is None:
        return
    own, root = model_path(charlm.checkpoint).resolve(), cache_root().resolve()
    folders = [folder.resolve(), WorkFolder(folder=folder.resolve(), request={}).path]
    if own == root or any(own.is_relative_to(other) or other.is_relative_to(own) for other in folders):
        raise RecipeError(
            f"english.training.charlm.checkpoint: {own} is no folder apart from the tagger's ({folder}); "
            "name another one, as english-charlm"
        )


def _purpose(data: _Data) -> Purpose:
    tests = tuple(sentence for sentences in data.tests.values() for sentence in sentences)
    corpus = Corpus(data.train, data.dev, tests)
    return Purpose(corpus=corpus, language="en", unit="word", key=_CHARLM)


def _what_they_are(charlm: EnglishCharLm, data: _Data) -> Any:
    """What the language models will be made from; the digests of those that are brought."""
    if charlm.training is not None:
        return make_request(charlm.training, _purpose(data))
    files = _language_models(charlm)
    unpack_directions(files)
    return [sha256(model).hexdigest() for model, _ in files]


def _language_models(charlm: EnglishCharLm | None) -> list[tuple[bytes, str]]:
    """Their files, each with its name."""
    if charlm is None:
        return []
    advice = (
        f"`backattn charlm train` makes such a folder, or `backattn english train` with a {_CHARLM}.training"
    )
    return local_files(model_path(charlm.checkpoint), advice)


def _train(data: _Data, training: EnglishTraining, work: Path, progress: bool) -> list[dict[str, float]]:
    """One model file an epoch; goes on after the last one that is there."""
    epochs = _read_epochs(work)
    if epochs:
        tagger = load_own_tagger(_model(work, len(epochs)))
    else:
        own = [open_embeddings(model, name) for model, name in _language_models(training.charlm)]
        tagger = new_tagger(data.train, training, folder=work, language_models=own)
    device = pick_device("auto")
    bar = tqdm(
        total=training.epochs,
        initial=len(epochs),
        desc="english",
        unit="epoch",
        disable=bar_disabled(progress),
    )
    with bar:
        for epoch in range(len(epochs), training.epochs):
            start = time.monotonic()
            loss = train_epoch(tagger, data.train, training, epoch=epoch, folder=work)
            reader = FlairTagger(tagger, name=MODEL, batch_tokens=_BATCH_TOKENS, device=device)
            dev = _evaluate(reader, data.dev)
            save_tagger(tagger, _model(work, epoch + 1))
            seconds = time.monotonic() - start
            epochs.append({"loss": loss, "dev_f1": dev.f1, "seconds": round(seconds, 1)})
            write_whole_text(work / _STATE, json.dumps(epochs))
            bar.set_postfix(loss=f"{loss:.3f}", dev=f"{100 * dev.f1:.2f}")
            bar.update()
            log_line(
                f"epoch {epoch + 1}/{training.epochs}: loss {loss:.3f}, F1 {100 * dev.f1:.2f} on dev, "
                f"{seconds:.0f} s",
                progress,
            )
    return epochs


def _finish(recipe: EnglishRecipe, data: _Data, work: WorkFolder, epochs: list[dict[str, float]]) -> None:
    best = max(range(len(epochs)), key=lambda i: epochs[i]["dev_f1"]) + 1
    result = work.fresh_result()
    write_whole(result / MODEL, _model(work.path, best).read_bytes())
    digest = file_digest(result / MODEL)
    device = pick_device("auto")
    tagger = FlairTagger.load(
        result / MODEL, sha256=digest, vouchers=Vouchers(), batch_tokens=_BATCH_TOKENS, device=device
    )
    report = EnglishReport(
        folder=work.folder,
        train_sentences=len(data.train),
        train_tokens=sum(map(len, data.train)),
        best_epoch=best,
        dev=_evaluate(tagger, data.dev),
        tests={name: _evaluate(tagger, sentences) for name, sentences in data.tests.items()},
        epochs=tuple(epochs),
    )
    told = {"request": work.request, "recipe": as_json(recipe), "report": report.to_json()}
    work.publish(result, told, ("backattn", "torch", "flair"))


def _evaluate(tagger: EnglishTagger, sentences: Sequence[Sentence]) -> F1:
    readings = tagger.read([sentence.tokens for sentence in sentences])
    return entity_f1([s.tags for s in sentences], [reading.tags for reading in readings])


def _model(work: Path, epoch: int) -> Path:
    return work / f"epoch{epoch}{SUFFIX}"


def _read_epochs(work: Path) -> list[dict[str, float]]:
    """Figures of the epochs that are done.

    :raises ModelError: they are damaged.
    """
    path = work / _STATE
    if not path.exists():
        return []
    with damage_as_model_error(path):
        return [{key: float(epoch[key]) for key in _FIGURES} for epoch in parse(path.read_text("utf-8"))]
