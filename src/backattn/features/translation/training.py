"""``backattn translator train LANG``: parallel text -> a translator's folder, with its BLEU.

pairs -> joint sentencepiece -> fairseq's training -> average of the last epochs -> BLEU. All work lies
in ``<folder>.work/`` until the end, so that a killed training goes on; the result folder appears whole.
"""

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sacrebleu
from tqdm import tqdm

from backattn.device import pick_device
from backattn.errors import ModelError, RecipeError
from backattn.features.translation.averaging import write_checkpoint
from backattn.features.translation.epoch_figures import EpochFigures
from backattn.features.translation.fairseq import FairseqTranslator
from backattn.features.translation.fairseq_training import (
    threads_of_torch,
    train_model,
    write_dictionaries,
)
from backattn.features.translation.parallel import Pair, read_training_text
from backattn.features.translation.piece_files import PieceFiles, prepare
from backattn.features.translation.vocabulary import detokenise, tokenise
from backattn.files import discard_folder, is_file, publish_folder, strange_folder, write_whole_text
from backattn.fingerprint import canonical_json, file_digest
from backattn.json_files import read_table
from backattn.quoting import quoted
from backattn.recipe import Recipe, TranslatorTraining, as_json, data_path
from backattn.store.lock import writer_lock

# Stands for everything here that changes the numbers and is not in the recipe: a work folder or a
# result of another version is not gone on from.
FORMAT_VERSION = 1
_PACKAGES = ("backattn", "torch", "fairseq-fixed", "sentencepiece", "sacremoses", "sacrebleu")
_FIGURES, _IDENTITY = "training.json", "identity.json"
# Sentences between two moves of the bar; a translation does not depend on its neighbours.
_BLEU_CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class TranslatorReport:
    """The figures of a trained translator, as its ``training.json`` keeps them.

    :param folder: what ``translator.checkpoint`` of the recipe names.
    :param train_pairs, valid_pairs: pairs that were trained on (repeats included) and held out.
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
    epochs: tuple[EpochFigures, ...]
    bleu: float
    bleu_signature: str
    test_sentences: int

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**dataclasses.asdict(self), "folder": str(self.folder)}

    def to_text(self) -> str:
        """The report in a few lines, for a person."""
        minutes = sum(epoch.seconds for epoch in self.epochs) / 60
        last = self.epochs[-1]
        speed = sum(epoch.pieces for epoch in self.epochs) / max(60 * minutes, 1e-9)
        return (
            f"{self.folder}: {self.parameters:,} parameters, {self.train_pairs:,} pairs, "
            f"{len(self.epochs)} epochs in {minutes:.0f} minutes ({speed:,.0f} pieces/s)\n"
            f"left out: {self.empty:,} with an empty side, {self.held_out:,} held out, "
            f"{self.too_long:,} too long\n"
            f"perplexity of a piece: {last.perplexity:.2f} in training, "
            f"{last.valid_perplexity:.2f} held out\n"
            f"BLEU {self.bleu:.1f} on {self.test_sentences:,} sentences ({self.bleu_signature})"
        )


def train_translator(
    recipe: Recipe, *, folder: Path, threads: int | None, progress: bool
) -> TranslatorReport:
    """Train the translator that a recipe describes and write it to ``folder``.

    A finished folder of the same recipe and data is left as it is; one of another recipe is replaced
    when the new one is ready. A training that was killed goes on from its last state.

    :param threads: of torch; None leaves torch's own choice.
    :param progress: show bars with rate and time left on standard error.
    :raises RecipeError: the recipe has no ``[translator.training]`` or names no folder of its own for the
        result, or the work folder belongs to another one.
    :raises ModelError: what an earlier training left is damaged.
    :raises CorpusError, MissingError: a parallel file is malformed or not there.
    :raises BusyError: another process trains into the same folder.
    """
    training = recipe.translator.training
    if training is None:
        raise RecipeError(
            f"recipe {recipe.name}: no [translator.training]: it says nothing about training a translator"
        )
    _refuse_strange_folder(recipe, folder)
    identity = _identity(recipe, training)
    work = folder.with_name(folder.name + ".work")
    with writer_lock(folder.with_name(folder.name + ".lock")), threads_of_torch(threads):
        if _identity_of(folder) != identity:
            _claim(work, identity)
            _train(recipe, training, identity=identity, folder=folder, work=work, progress=progress)
        if not work.exists() or _belongs(work, identity):
            discard_folder(work)
        return read_report(folder)


def read_report(folder: Path) -> TranslatorReport:
    """The report of a finished result folder.

    :raises ModelError: it is damaged.
    """
    figures = _read_figures(folder)
    try:
        pairs, bleu = figures["pairs"], figures["bleu"]
        return TranslatorReport(
            folder=folder,
            train_pairs=pairs["train"],
            valid_pairs=pairs["valid"],
            empty=pairs["no_pieces"] + sum(file["empty"] for file in pairs["files"]),
            held_out=sum(file["held_out"] for file in pairs["files"]),
            too_long=pairs["too_long"],
            parameters=figures["parameters"],
            epochs=tuple(EpochFigures(**epoch) for epoch in figures["epochs"]),
            bleu=bleu["score"],
            bleu_signature=bleu["signature"],
            test_sentences=bleu["sentences"],
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / _FIGURES}: damaged ({quoted(error)}); {_delete(folder)}") from None


def _read_figures(folder: Path) -> dict[str, Any]:
    return read_table(folder / _FIGURES, _delete(folder))


def _delete(folder: Path) -> str:
    return f"delete {folder} to train anew"


def _refuse_strange_folder(recipe: Recipe, folder: Path) -> None:
    """The result takes the place of ``folder``: it must be a translator's own, or not be there."""
    if not recipe.translator.checkpoint:
        raise RecipeError(
            f"recipe {recipe.name}: translator.checkpoint: missing key; expected the folder for the result"
        )
    if strange_folder(folder, _FIGURES):
        raise RecipeError(
            f"{folder}: is no translator that was trained here, and is not replaced; move it away, or name "
            "another folder in translator.checkpoint"
        )


def _identity(recipe: Recipe, training: TranslatorTraining) -> dict[str, Any]:
    """Everything that the numbers of a training depend on, down to the bytes of the parallel files."""
    files = [*training.parallel, training.valid, training.test]
    names = sorted({name for file in files for name in (file.path, file.english_path) if name})
    return {
        "format": FORMAT_VERSION,
        "source": recipe.translator.source,
        "unit": recipe.corpus.unit,
        "training": as_json(training),
        "data": {name: _data_digest(name) for name in names},
    }


def _data_digest(name: str) -> str:
    path = data_path(name)
    # A missing file is named, with what to do, by the one place that reads it.
    return file_digest(path) if is_file(path) else ""


def _identity_of(folder: Path) -> Any:
    return _read_figures(folder).get("identity") if (folder / _FIGURES).exists() else None


def _claim(work: Path, identity: dict[str, Any]) -> None:
    """Make the work folder this recipe's own, or refuse when it holds another's unfinished training."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / _IDENTITY
    if path.exists() and not _belongs(work, identity):
        raise RecipeError(
            f"{work}: holds the unfinished training of another recipe or of other data; "
            "delete the folder to train anew, or restore what the recipe named before"
        )
    write_whole_text(path, canonical_json(identity))


def _belongs(work: Path, identity: dict[str, Any]) -> bool:
    path = work / _IDENTITY
    return path.exists() and path.read_bytes() == canonical_json(identity).encode("utf-8")


def _train(
    recipe: Recipe,
    training: TranslatorTraining,
    *,
    identity: dict[str, Any],
    folder: Path,
    work: Path,
    progress: bool,
) -> None:
    source = recipe.translator.source
    text = read_training_text(training)
    counts = prepare(text, work, source=source, unit=recipe.corpus.unit, training=training, progress=progress)
    pieces = PieceFiles(work, source)
    epochs = train_model(pieces, training, work=work, progress=progress)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    parameters = write_checkpoint(training, work=work, path=partial / "checkpoint.pt")
    write_dictionaries(pieces, partial)
    shutil.copyfile(work / "joint.model", partial / "joint.model")
    figures = {
        "identity": identity,
        "recipe": as_json(recipe.translator),
        "pairs": counts,
        "parameters": parameters,
        "epochs": [dataclasses.asdict(epoch) for epoch in epochs],
        "bleu": _bleu(recipe, training, text.test, partial, progress),
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
        "files": {path.name: file_digest(path) for path in sorted(partial.iterdir())},
    }
    write_whole_text(partial / _FIGURES, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    publish_folder(partial, folder)


def _bleu(
    recipe: Recipe, training: TranslatorTraining, test: Sequence[Pair], folder: Path, progress: bool
) -> dict[str, Any]:
    """Translate the held-out test pairs with the model just made, as stage one will, and score them."""
    pairs = list(test)[: training.test_limit or None]
    sources = [tuple(tokenise(pair.foreign, recipe.translator.source, recipe.corpus.unit)) for pair in pairs]
    translator = FairseqTranslator.load(folder, recipe.translator, device=pick_device("auto"))
    english: list[str] = []
    with tqdm(total=len(pairs), desc="translate for BLEU", unit="sentence", disable=not progress) as bar:
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
        "beam": recipe.translator.beam,
    }
