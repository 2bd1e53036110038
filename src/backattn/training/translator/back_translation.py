"""Back-translation: make more training pairs from English text, with a translator of the other direction.

Sennrich, Haddow and Birch (2016, arXiv:1511.06709): the target side of such a pair is real text, only its
source side is not. The reverse translator is trained on the same pairs, in the work folder, and is removed
with it at the end.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs
from tqdm import tqdm

from backattn.common.atomic_files import is_file, write_whole_text
from backattn.common.device import pick_device
from backattn.common.errors import CorpusError, ModelError, RecipeError
from backattn.common.progress import bar_disabled
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import quoted
from backattn.models.training_manifest import train_anew
from backattn.recipe import BackTranslation, FairseqRecipe, Recipe, TranslatorTraining, Unit
from backattn.training.english.column_files import read_english_file
from backattn.training.translator.checkpoint_averaging import averaged_epochs
from backattn.training.translator.fairseq_trainer import train_model, write_model
from backattn.training.translator.parallel_corpus import (
    BackTranslationCounts,
    SentencePair,
    TrainingText,
    read_pairs,
)
from backattn.training.translator.subword_data import PieceFiles, prepare
from backattn.translation import Translation
from backattn.translation.fairseq import FairseqTranslator
from backattn.translation.tokenisation import detokenise, letters, split_words

# Sentences per file of the work folder. A kill loses the translations of one file at most. The batches, and
# so the last digits, depend on this number.
_CHUNK = 2000


@dataclass(frozen=True)
class EnglishText:
    """The sentences of one file that are translated back.

    :param repeat: how often each sentence counts.
    :param known: sentences left out because they are the English side of a pair, or repeat an earlier one.
    :param empty: lines left out because there is no token.
    """

    path: str
    sentences: tuple[str, ...]
    repeat: int
    known: int
    empty: int


def read_english(back: BackTranslation, text: TrainingText) -> list[EnglishText]:
    """Read the English sentences of a recipe's files that are in no pair, training or held-out.

    :raises CorpusError, MissingError, RecipeError: as :func:`read_training_text`; or no sentence is left.
    """
    seen = {letters(pair.english) for pair in (*text.train, *text.valid, *text.test)}
    seen.update(map(letters, text.other_english))
    found = []
    for path, repeat, sentences, empty in _files(back):
        full = [sentence for sentence in sentences if split_words(sentence, "en")]
        kept = []
        for sentence in full:
            if letters(sentence) not in seen:
                seen.add(letters(sentence))
                kept.append(sentence)
        empty += len(sentences) - len(full)
        found.append(EnglishText(path, tuple(kept), repeat, known=len(full) - len(kept), empty=empty))
    if not any(english.sentences for english in found):
        raise CorpusError(
            "the recipe's translator.training.back_translation gives no sentence that is new: all are in the "
            "pairs, or empty; name other files"
        )
    return found


def _files(back: BackTranslation) -> Iterator[tuple[str, int, list[str], int]]:
    """Iterate over the files: path, how often its sentences count, sentences, number of lines without one."""
    for parallel in back.parallel:
        pairs, empty = read_pairs(parallel)
        yield parallel.path, parallel.repeat, [pair.english for pair in pairs], empty
    for columns in back.columns:
        if columns.use not in ("train", "split"):
            raise RecipeError(
                f"translator.training.back_translation.columns: {columns.path}: use = {quoted(columns.use)} "
                'leaves no training sentences, which alone are translated back; expected "train" or "split"'
            )
        sentences = read_english_file(columns)["train"]
        yield columns.path, 1, [detokenise(sentence.tokens) for sentence in sentences], 0


def translate_back(
    recipe: Recipe,
    training: TranslatorTraining,
    back: BackTranslation,
    text: TrainingText,
    english: Sequence[EnglishText],
    *,
    work: Path,
    progress: bool,
) -> TrainingText:
    """Append the pairs of back-translated sentences to the training pairs; resumes after a kill.

    A sentence whose translation is empty or reached its length limit is left out, and counted.

    :param work: the work folder of the training.
    :raises CorpusError: no pair is short enough to train on.
    :raises ModelError: a file of an earlier call is damaged, or the training diverged.
    """
    folder = work / "back-translation"
    folder.mkdir(exist_ok=True)
    unit, source = recipe.corpus.unit, recipe.translator.source
    sentences = [sentence for own in english for sentence in own.sentences]
    chunks = [sentences[start : start + _CHUNK] for start in range(0, len(sentences), _CHUNK)]
    paths = [folder / f"{number}.txt" for number in range(len(chunks))]
    missing = [(path, chunk) for path, chunk in zip(paths, chunks, strict=True) if not is_file(path)]
    if missing:
        reverse = _reverse(recipe, training, back, text, folder, progress)
        bar = tqdm(
            missing,
            desc="translate back",
            unit_scale=_CHUNK,
            unit=" sentences",
            disable=bar_disabled(progress),
        )
        for path, chunk in bar:
            translations = reverse.translate([tuple(split_words(sentence, "en")) for sentence in chunk])
            lines = [_as_text(translation, source, unit) + "\n" for translation in translations]
            write_whole_text(path, "".join(lines))
    foreign = (line for path, chunk in zip(paths, chunks, strict=True) for line in _lines(path, len(chunk)))
    train, counts = list(text.train), []
    for own in english:
        pairs = [SentencePair(next(foreign), sentence) for sentence in own.sentences]
        kept = [pair for pair in pairs if pair.foreign]
        train += kept * own.repeat
        counts.append(
            BackTranslationCounts(
                path=own.path,
                pairs=len(kept),
                repeat=own.repeat,
                known=own.known,
                empty=own.empty,
                untranslated=len(pairs) - len(kept),
            )
        )
    return dataclasses.replace(text, train=tuple(train), translated_back=tuple(counts))


def _reverse(
    recipe: Recipe,
    training: TranslatorTraining,
    back: BackTranslation,
    text: TrainingText,
    folder: Path,
    progress: bool,
) -> FairseqTranslator:
    """Train the translator from English, or resume its training.

    It is initialised with the parent's weights too, where there is one: both sides share one embedding, and
    the parent has the pieces.
    """
    source, unit = recipe.translator.source, recipe.corpus.unit
    own = structs.replace(
        training, learning_rates=back.learning_rates, average=back.average, back_translation=None, keep=False
    )
    files = PieceFiles(folder, "en", source)
    swapped = TrainingText(_swapped(text.train), _swapped(text.valid), _swapped(text.test), ())
    prepare(swapped, files, units=("word", unit), training=own, progress=progress)
    train_model(files, own, work=folder, progress=progress)
    model = folder / "model"
    model.mkdir(exist_ok=True)
    write_model(files, averaged_epochs(own), model)
    # Whole sentences, as in training; not the recipe's beam search settings, which no weight may depend on.
    table = FairseqRecipe(
        checkpoint=str(model),
        source="en",
        segment_pieces=training.max_pieces,
        precision=training.precision,
    )
    return FairseqTranslator.load(model, table, device=pick_device("auto"), target=source)


def _swapped(pairs: Sequence[SentencePair]) -> tuple[SentencePair, ...]:
    return tuple(SentencePair(pair.english, pair.foreign) for pair in pairs)


def _as_text(translation: Translation, language: str, unit: Unit) -> str:
    """A translation as detokenised text; empty where it reached its length limit."""
    if translation.limited:
        return ""
    words = translation.english  # the output side, which is not English here
    return "".join(words) if unit == "character" else detokenise(words, language)


def _lines(path: Path, count: int) -> list[str]:
    try:
        lines = read_regular(path).decode("utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError):
        lines = []
    if len(lines) != count:
        raise ModelError(f"{path}: missing or damaged; {train_anew(path.parent)}")
    return lines
