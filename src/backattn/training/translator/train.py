"""``backattn translator train LANG``: parallel text -> a translator's folder, with its BLEU.

pairs -> joint sentencepiece -> fairseq's training -> average of the last epochs -> BLEU. All work lies
in ``<folder>.work/`` until the end, so that a killed training goes on; the result folder appears whole.
With ``keep``, so does ``<folder>.epochs/`` before it, with a translator of each epoch.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sacrebleu
from tqdm import tqdm

from backattn.common.atomic_files import is_file, publish_folder
from backattn.common.device import pick_device, threads_of_torch
from backattn.common.errors import RecipeError
from backattn.common.progress import bar_disabled
from backattn.models.training_manifest import MANIFEST, damage_as_model_error, read_manifest
from backattn.recipe import EPOCHS, BackTranslation, Recipe, TranslatorTraining, as_json, model_path
from backattn.training.training_job import (
    WorkFolder,
    changes,
    data_digest,
    real_folder,
    refuse_strange_folder,
    request_of,
)
from backattn.training.translator.back_translation import read_english, translate_back
from backattn.training.translator.checkpoint_averaging import all_epochs, averaged_epochs
from backattn.training.translator.epoch_metrics import TranslatorEpoch
from backattn.training.translator.fairseq_trainer import train_model, write_model
from backattn.training.translator.initialisation import parent_digests, parent_files
from backattn.training.translator.parallel_corpus import SentencePair, read_training_text
from backattn.training.translator.subword_data import PieceFiles, prepare
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.tokenisation import detokenise, tokenise

# Stands for everything here that changes the numbers and is not in the recipe: a work folder or a
# result of another version is not gone on from.
FORMAT_VERSION = 2
_PACKAGES = ("backattn", "torch", "fairseq-fixed", "sentencepiece", "sacremoses", "sacrebleu")
_IDENTITY = "identity"
# Sentences between two moves of the bar; a translation does not depend on its neighbours.
_BLEU_CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class TranslatorReport:
    """The figures of a trained translator, as its ``training.json`` keeps them.

    :param folder: what ``translator.checkpoint`` of the recipe names.
    :param train_pairs, valid_pairs: pairs that were trained on (repeats included) and held out.
    :param translated_back: English sentences among the former that were translated back.
    :param not_translated_back: of the same files, lines left out: without a sentence, with one that the pairs
        or earlier lines have already, or whose translation is empty or ran into its length limit.
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
    translated_back: int = 0
    not_translated_back: int = 0

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}

    def to_text(self) -> str:
        """The report in a few lines, for a person."""
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

    A finished folder of the same recipe and data is left as it is. A training that was killed goes on
    from its last state.

    With ``keep``, ``<folder>.epochs/1`` and so on are complete translators too, of each epoch's own
    weights. Where they are not there, because the finished translator was trained without ``keep``, it is
    trained once more for them, and the finished folder is still left as it is. A ``<folder>.epochs`` of
    another recipe is replaced; without ``keep`` none is touched. An unfinished training without ``keep``
    has no weights of its first epochs any more, so one with ``keep`` does not go on from it.

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
    _refuse_strange_folder(recipe, training, place)
    identity = _identity(recipe, training)
    if training.parent and not is_file(folder / MANIFEST):
        parent_files(training.parent)  # says what is missing, before an unfinished training is looked at
    # What is not kept cannot be had from the work folder later.
    claimed = {**identity, "keep": True} if training.keep else identity
    work = WorkFolder(folder=place, request=claimed, name=_IDENTITY, lang=recipe.name, replace=replace)
    with work.locked(), threads_of_torch(threads):
        if work.needed(identity) or not _kept(place, identity, training):
            _train(recipe, training, identity=identity, work=work, progress=progress)
    return read_report(folder)


def read_report(folder: Path) -> TranslatorReport:
    """The report of a finished result folder.

    :raises ModelError: it is damaged.
    """
    figures = read_manifest(folder)
    with damage_as_model_error(folder / MANIFEST):
        pairs, bleu = figures["pairs"], figures["bleu"]
        return TranslatorReport(
            folder=folder,
            train_pairs=pairs["train"],
            valid_pairs=pairs["valid"],
            empty=pairs["no_pieces"] + sum(file["empty"] for file in pairs["files"]),
            held_out=sum(file["held_out"] for file in pairs["files"]),
            too_long=pairs["too_long"],
            parameters=figures["parameters"],
            epochs=tuple(TranslatorEpoch(**epoch) for epoch in figures["epochs"]),
            bleu=bleu["score"],
            bleu_signature=bleu["signature"],
            test_sentences=bleu["sentences"],
            translated_back=pairs.get("translated_back", 0),
            not_translated_back=sum(
                file["known"] + file["empty"] + file["untranslated"] for file in pairs.get("english", ())
            ),
        )


def epochs_folder(folder: Path) -> Path:
    """Where a training with ``keep`` leaves a translator of each epoch: its subfolders ``1``, ``2``, ..."""
    return folder.with_name(folder.name + EPOCHS)


def _place(recipe: Recipe, training: TranslatorTraining, folder: Path) -> Path:
    """The real folder of the result; with ``keep`` the one beside it must be found beside a link too.

    :raises RecipeError: it would not, or as :func:`real_folder`.
    """
    place = real_folder(folder)
    epochs, named = epochs_folder(place), epochs_folder(folder)
    if training.keep and (epochs.is_symlink() or named.resolve() != epochs.resolve()):
        raise RecipeError(
            f"recipe {recipe.name}: translator.training.keep: {folder} is a link to {place}, so each epoch's "
            f"translator goes to {epochs}; make {named} a link to that folder, or set keep to false"
        )
    return place


def _refuse_strange_folder(recipe: Recipe, training: TranslatorTraining, folder: Path) -> None:
    """The result takes the place of ``folder``, and what is kept that of the one beside it."""
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


def _identity(recipe: Recipe, training: TranslatorTraining) -> dict[str, Any]:
    """Everything that the weights depend on, down to the bytes of the parallel files.

    Not how the recipe searches, which the BLEU beside them depends on, too: ``training.json`` keeps it.
    """
    back = training.back_translation or BackTranslation()
    files = [*training.parallel, *back.parallel, training.valid, training.test]
    names = {name for file in files for name in (file.path, file.english_path) if name}
    names |= {file.path for file in training.dictionaries} | {file.path for file in back.columns}
    settings = as_json(training)
    del settings["keep"]
    for later in (
        "parent",
        "dictionaries",
        "back_translation",
    ):  # a training without them is the one that it was before
        if not settings[later]:
            del settings[later]
    return {
        "format": FORMAT_VERSION,
        "source": recipe.translator.source,
        "unit": recipe.corpus.unit,
        "training": settings,
        "data": {name: data_digest(name) for name in sorted(names)},
        **({"parent": parent_digests(training.parent)} if training.parent else {}),
    }


def _of_epoch(identity: dict[str, Any], epoch: int) -> dict[str, Any]:
    """The identity of one epoch's translator."""
    return {**identity, "epoch": epoch}


def _kept(folder: Path, identity: dict[str, Any], training: TranslatorTraining) -> bool:
    """Whether all epochs that the recipe asks for are there."""
    kept = epochs_folder(folder)
    return not training.keep or not any(
        changes(request_of(kept / str(epoch), _IDENTITY), _of_epoch(identity, epoch))
        for epoch in all_epochs(training)
    )


def _train(
    recipe: Recipe,
    training: TranslatorTraining,
    *,
    identity: dict[str, Any],
    work: WorkFolder,
    progress: bool,
) -> None:
    """Train, and write what is not there yet: the result, and with ``keep`` before it each epoch."""
    # First: what cannot be read leaves no unfinished training behind.
    if training.parent:
        parent_files(training.parent)
    text, back = read_training_text(training), training.back_translation
    english = read_english(back, text) if back else []
    folder, path = work.folder, work.claim()
    files = PieceFiles(path, recipe.translator.source)
    if back:
        text = translate_back(recipe, training, back, text, english, work=path, progress=progress)
    counts = prepare(text, files, units=(recipe.corpus.unit, "word"), training=training, progress=progress)
    epochs = train_model(files, training, work=path, progress=progress)

    def write(target: Path, weights: Sequence[int], own: dict[str, Any]) -> None:
        """A whole translator's folder with the weights of some epochs, unless it is there."""
        if request_of(target, _IDENTITY) == own:
            return
        result = work.fresh_result()
        parameters = write_model(files, weights, result)
        figures = {
            _IDENTITY: own,
            "recipe": as_json(recipe.translator),
            "pairs": counts,
            "parameters": parameters,
            "epochs": [dataclasses.asdict(epoch) for epoch in epochs[: weights[-1]]],
            "bleu": _bleu(recipe, training, text.test, result, progress),
        }
        work.publish(result, figures, _PACKAGES, folder=target)

    if not _kept(folder, identity, training):
        kept = path / "epochs"
        kept.mkdir(exist_ok=True)
        for epoch in all_epochs(training):
            write(kept / str(epoch), [epoch], _of_epoch(identity, epoch))
        publish_folder(kept, epochs_folder(folder))
    write(folder, averaged_epochs(training), identity)


def _bleu(
    recipe: Recipe, training: TranslatorTraining, test: Sequence[SentencePair], folder: Path, progress: bool
) -> dict[str, Any]:
    """Translate the held-out test pairs with the model just made, as stage one will, and score them."""
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
