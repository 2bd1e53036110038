"""Train a translator (``backattn translator train LANG``) on parallel text, and measure its BLEU.

Sentence pairs are split into pieces of a joint sentencepiece model, fairseq trains on them, the weights of
the last epochs are averaged, and the average translates the held-out test file. With ``keep``, a translator
of each epoch goes to ``<folder>.epochs/``, which appears whole before the result does.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sacrebleu
from tqdm import tqdm

from backattn.common.atomic_files import is_file, publish_folder
from backattn.common.device import pick_device, threads_of_torch
from backattn.common.errors import RecipeError
from backattn.common.progress import bar_disabled
from backattn.models.training_manifest import MANIFEST, read_report_as
from backattn.recipe import (
    EPOCHS,
    BackTranslation,
    Recipe,
    TranslatorTraining,
    as_json,
    model_path,
    without_licences,
)
from backattn.training.training_job import (
    TrainingJob,
    changes,
    data_digest,
    real_folder,
    refuse_strange_folder,
    request_of,
)
from backattn.training.translator.back_translation import EnglishText, read_english, translate_back
from backattn.training.translator.checkpoint_averaging import all_epochs, averaged_epochs
from backattn.training.translator.epoch_metrics import TranslatorEpoch
from backattn.training.translator.fairseq_trainer import train_model, write_model
from backattn.training.translator.initialisation import parent_digests, parent_files
from backattn.training.translator.parallel_corpus import SentencePair, TrainingText, read_training_text
from backattn.training.translator.subword_data import PieceFiles, prepare
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.tokenisation import detokenise, tokenise

# Stands for everything in this package that changes the numbers and is not in the recipe: a work folder or a
# result of another version is not resumed or reused.
FORMAT_VERSION = 2
_PACKAGES = ("backattn", "torch", "fairseq-fixed", "sentencepiece", "sacremoses", "sacrebleu")
# Sentences between two updates of the bar; a translation does not depend on its neighbours.
_BLEU_CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class TranslatorReport:
    """The figures of a trained translator, as its ``training.json`` keeps them.

    :param folder: the folder that ``translator.checkpoint`` of the recipe names.
    :param train_pairs, valid_pairs: pairs that were trained on (repeats included) and held out.
    :param translated_back: how many of the training pairs are back-translated English sentences.
    :param not_translated_back: lines of these English files that were left out: without a sentence, with one
        of the pairs or of an earlier line, or with a translation that is empty or reached its length limit.
    :param empty, held_out, too_long: pairs left out: a side is empty, is also in the held-out files, or
        has more pieces than the recipe's ``max_pieces``.
    :param epochs: loss, perplexity, speed and time of each epoch.
    :param bleu: sacrebleu's BLEU of the detokenised translation of the held-out test file.
    :param bleu_signature: how that number was computed, as sacrebleu writes it.
    :param test_sentences: how many sentences it was computed on.
    """

    folder: Path
    train_pairs: int
    valid_pairs: int
    empty: int
    held_out: int
    too_long: int
    parameters: int
    epochs: tuple[TranslatorEpoch, ...]
    bleu: float
    bleu_signature: str
    test_sentences: int
    translated_back: int
    not_translated_back: int

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}

    def to_text(self) -> str:
        """The report in a few lines, for a reader."""
        minutes = sum(epoch.seconds for epoch in self.epochs) / 60
        last = self.epochs[-1]
        speed = sum(epoch.pieces for epoch in self.epochs) / max(60 * minutes, 1e-9)
        back = f" ({self.translated_back:,} translated back)" if self.translated_back else ""
        left = f", {self.not_translated_back:,} not translated back" if self.not_translated_back else ""
        return (
            f"{self.folder}: {self.parameters:,} parameters, {self.train_pairs:,} pairs{back}, "
            f"{len(self.epochs)} epoch{'s' if len(self.epochs) > 1 else ''} in {minutes:.1f} minutes "
            f"({speed:,.0f} pieces/s)\n"
            f"left out: {self.empty:,} with an empty side, {self.held_out:,} held out, "
            f"{self.too_long:,} too long{left}\n"
            f"perplexity of a piece: {last.perplexity:.2f} in training, "
            f"{last.valid_perplexity:.2f} held out\n"
            f"BLEU {self.bleu:.1f} on {self.test_sentences:,} sentences ({self.bleu_signature})"
        )


def train_translator(
    recipe: Recipe, *, folder: Path, threads: int | None, progress: bool, replace: bool = False
) -> TranslatorReport:
    """Train the translator that a recipe describes and write it to ``folder``.

    A finished folder of the same recipe and data is left as it is. A killed training resumes from its last
    state.

    With ``keep``, ``<folder>.epochs/1`` and so on are complete translators too, of each epoch's own weights.
    A finished translator that was trained without ``keep`` is trained once more for its epochs, and its
    folder is still left as it is. A ``<folder>.epochs`` of another recipe is replaced; without ``keep`` none
    is touched. An unfinished training without ``keep`` no longer has the weights of its first epochs, so one
    with ``keep`` does not resume it.

    :param threads: of torch; None leaves torch's own choice.
    :param progress: show bars with rate and time left on standard error.
    :param replace: a finished folder of other settings or data is replaced when the new one is ready.
    :raises RecipeError: the recipe has no ``[translator.training]`` or names no folder of its own for the
        result, the work folder belongs to another one, or a finished one is not to be replaced.
    :raises ModelError: what an earlier training left is damaged.
    :raises CorpusError, MissingError: a parallel file is malformed or not there.
    :raises BusyError: another process trains into the same folder.
    """
    translator, training = recipe.own_translator
    if translator.source == "en":
        # Both sides would have one file of pieces and one dictionary.
        raise RecipeError(
            f"recipe {recipe.name}: translator.source: a translator is trained into English, found 'en'; "
            "name the language of the corpus"
        )
    place = _place(recipe, training, folder)
    _refuse_strange_folders(recipe, training, place)
    if training.parent and not is_file(folder / MANIFEST):
        parent_files(training.parent)  # report a missing parent before looking at an unfinished training
    job = TrainingJob(
        folder=place,
        request=_request(recipe, training),
        work_settings={"keep": True} if training.keep else {},
        lang=recipe.name,
        packages=_PACKAGES,
        replace=replace,
    )
    with threads_of_torch(threads):
        job.run(
            prepare=lambda: _read(training),
            train=lambda text, work: _train(recipe, training, text, job, work, progress),
            write=lambda _, write, result: write(averaged_epochs(training), result),
            incomplete=lambda: not _has_epochs(job, training),
        )
    return read_report(folder)


def read_report(folder: Path) -> TranslatorReport:
    """The report of a finished result folder.

    :raises ModelError: it is damaged.
    """
    return read_report_as(TranslatorReport, folder, _report_values)


def _report_values(manifest: dict[str, Any]) -> dict[str, Any]:
    pairs, bleu = manifest["pairs"], manifest["bleu"]
    return {
        "train_pairs": pairs["train"],
        "valid_pairs": pairs["valid"],
        "empty": pairs["no_pieces"] + sum(file["empty"] for file in pairs["files"]),
        "held_out": sum(file["held_out"] for file in pairs["files"]),
        "too_long": pairs["too_long"],
        "parameters": manifest["parameters"],
        "epochs": manifest["epochs"],
        "bleu": bleu["score"],
        "bleu_signature": bleu["signature"],
        "test_sentences": bleu["sentences"],
        "translated_back": pairs["translated_back"],
        "not_translated_back": sum(
            file["known"] + file["empty"] + file["untranslated"] for file in pairs["english"]
        ),
    }


def epochs_folder(folder: Path) -> Path:
    """The folder of a training with ``keep`` that has a translator of each epoch: ``1``, ``2``, ..."""
    return folder.with_name(folder.name + EPOCHS)


def _place(recipe: Recipe, training: TranslatorTraining, folder: Path) -> Path:
    """Resolve the folder of the result; with ``keep``, check that its epochs can be found beside a link.

    :raises RecipeError: the link has no epochs' folder beside it, or as :func:`real_folder`.
    """
    place = real_folder(folder)
    epochs, named = epochs_folder(place), epochs_folder(folder)
    if training.keep and (epochs.is_symlink() or named.resolve() != epochs.resolve()):
        raise RecipeError(
            f"recipe {recipe.name}: translator.training.keep: {folder} is a link to {place}, so each epoch's "
            f"translator goes to {epochs}; make {named} a link to that folder, or set keep to false"
        )
    return place


def _refuse_strange_folders(recipe: Recipe, training: TranslatorTraining, folder: Path) -> None:
    """Refuse folders that the result, or with ``keep`` its epochs, must not replace.

    :raises RecipeError: the recipe names none, or the parent's or an epoch's, or one holds other things.
    """
    if not recipe.own_translator[0].checkpoint:
        raise RecipeError(
            f"recipe {recipe.name}: translator.checkpoint: missing key; expected the folder for the result"
        )
    if training.parent:
        parent, own = model_path(training.parent).resolve(), folder.resolve()
        if own == parent or epochs_folder(own) in parent.parents:
            raise RecipeError(
                f"recipe {recipe.name}: translator.training.parent: is the translator to be trained, {own}; "
                "name another one, or leave it out"
            )
    if folder.parent.suffix == EPOCHS:
        raise RecipeError(
            f"{folder}: is an epoch of another training; to train, name {folder.parent.with_suffix('')} in "
            "translator.checkpoint"
        )
    places = {folder: MANIFEST, **({epochs_folder(folder): f"1/{MANIFEST}"} if training.keep else {})}
    for place, manifest in places.items():
        refuse_strange_folder(
            place, manifest, "is no translator that was trained here", "translator.checkpoint"
        )


def _request(recipe: Recipe, training: TranslatorTraining) -> dict[str, Any]:
    """Everything that the weights depend on, down to digests of the parallel files.

    The settings of beam search are left out, although the BLEU depends on them; ``training.json`` records
    them.
    """
    back = training.back_translation or BackTranslation()
    files = [*training.parallel, *back.parallel, training.valid, training.test]
    names = {name for file in files for name in (file.path, file.english_path) if name}
    names |= {file.path for file in training.dictionaries} | {file.path for file in back.columns}
    settings = without_licences(as_json(training))
    del settings["keep"]  # it does not change the numbers
    return {
        "format": FORMAT_VERSION,
        "source": recipe.translator.source,
        "unit": recipe.corpus.unit,
        "training": settings,
        "data": {name: data_digest(name) for name in sorted(names)},
        "parent": parent_digests(training.parent) if training.parent else None,
    }


def _read(training: TranslatorTraining) -> tuple[TrainingText, list[EnglishText]]:
    """Read the parallel files, and the English sentences to translate back."""
    if training.parent:
        parent_files(training.parent)
    text, back = read_training_text(training), training.back_translation
    return text, read_english(back, text) if back else []


def _train(
    recipe: Recipe,
    training: TranslatorTraining,
    source: tuple[TrainingText, list[EnglishText]],
    job: TrainingJob,
    work: Path,
    progress: bool,
) -> Callable[[Sequence[int], Path], dict[str, Any]]:
    """Train all epochs, and with ``keep`` publish a translator of each.

    :returns: a function that writes a translator with the average weights of some epochs into a folder.
    """
    (text, english), back = source, training.back_translation
    files = PieceFiles(work, recipe.translator.source)
    if back:
        text = translate_back(recipe, training, back, text, english, work=work, progress=progress)
    counts = prepare(text, files, units=(recipe.corpus.unit, "word"), training=training, progress=progress)
    epochs = train_model(files, training, work=work, progress=progress)

    def write(weights: Sequence[int], result: Path) -> dict[str, Any]:
        parameters = write_model(files, weights, result)
        return {
            "recipe": as_json(recipe.translator),
            "pairs": counts,
            "parameters": parameters,
            "epochs": [dataclasses.asdict(epoch) for epoch in epochs[: weights[-1]]],
            "bleu": _bleu(recipe, training, text.test, result, progress),
        }

    if not _has_epochs(job, training):
        folder = work / "epochs"
        folder.mkdir(exist_ok=True)
        for epoch in all_epochs(training):
            target, request = folder / str(epoch), _request_of_epoch(job, epoch)
            if request_of(target) != request:
                job.publish(functools.partial(write, [epoch]), folder=target, request=request)
        publish_folder(folder, epochs_folder(job.folder))
    return write


def _has_epochs(job: TrainingJob, training: TranslatorTraining) -> bool:
    """Whether all epochs that the recipe keeps are there."""
    kept = epochs_folder(job.folder)
    return not training.keep or not any(
        changes(request_of(kept / str(epoch)), _request_of_epoch(job, epoch))
        for epoch in all_epochs(training)
    )


def _request_of_epoch(job: TrainingJob, epoch: int) -> dict[str, Any]:
    return {**job.request, "epoch": epoch}


def _bleu(
    recipe: Recipe, training: TranslatorTraining, test: Sequence[SentencePair], folder: Path, progress: bool
) -> dict[str, Any]:
    """Translate the held-out test pairs with a trained model, as stage one does, and score them."""
    pairs = list(test)[: training.test_limit or None]
    table, _ = recipe.own_translator
    sources = [tuple(tokenise(pair.foreign, table.source, recipe.corpus.unit)) for pair in pairs]
    translator = FairseqTranslator.load(folder, table, device=pick_device("auto"))
    english: list[str] = []
    with tqdm(
        total=len(pairs), desc="translate for BLEU", unit="sentence", disable=bar_disabled(progress)
    ) as bar:
        for start in range(0, len(sources), _BLEU_CHUNK):
            translations = translator.translate(sources[start : start + _BLEU_CHUNK])
            english += [detokenise(translation.english) for translation in translations]
            bar.update(len(translations))
    metric = sacrebleu.BLEU(tokenize="13a")
    score = metric.corpus_score(english, [[pair.english for pair in pairs]])
    return {
        "score": score.score,
        "signature": str(metric.get_signature()),
        "sentences": len(pairs),
        "beam": table.beam,
    }
