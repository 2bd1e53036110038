"""Split sentence pairs into pieces and write them to the files that the training reads."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backattn.common.atomic_files import write_whole_text
from backattn.common.digests import canonical_json
from backattn.common.errors import CorpusError, ModelError
from backattn.common.json_files import read_table
from backattn.common.progress import bar_disabled
from backattn.common.regular_files import read_regular
from backattn.models.training_manifest import train_anew
from backattn.recipe import TranslatorTraining, Unit
from backattn.training.translator.parallel_corpus import TrainingText
from backattn.training.translator.vocabulary import train_vocabulary
from backattn.translation.sentencepieces import SentencePieceModel
from backattn.translation.tokenisation import tokenise


@dataclass(frozen=True)
class PieceFiles:
    """The files of pieces: one sentence a line, pieces separated by spaces.

    :param folder: holds ``train.<language>`` and ``valid.<language>`` of both languages.
    :param source, target: language codes of the two sides.
    """

    folder: Path
    source: str
    target: str = "en"

    @property
    def languages(self) -> tuple[str, str]:
        """The language codes of the two sides."""
        return self.source, self.target

    def lines(self, split: str, language: str) -> list[list[str]]:
        """The sentences of one side of ``train`` or ``valid`` as lists of pieces."""
        path = self.folder / f"{split}.{language}"
        try:
            text = read_regular(path).decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise ModelError(f"{path}: missing or damaged; {train_anew(self.folder)}") from None
        return [line.split(" ") for line in text.split("\n")[:-1]]


def prepare(
    text: TrainingText,
    files: PieceFiles,
    *,
    units: tuple[Unit, Unit],
    training: TranslatorTraining,
    progress: bool,
) -> dict[str, Any]:
    """Tokenise, learn the joint pieces (``joint.model``), and write each side as lines of pieces.

    What an earlier call has finished is not done again.

    :param text: pairs of the source and the target language.
    :param units: what a token of each language is.
    :returns: counts of the pairs that were written and left out.
    :raises CorpusError: no pair of a split is left.
    """
    work = files.folder
    done = work / "prepared.json"
    if done.exists():
        return read_table(done, train_anew(work))
    source, target = (
        {side: tokenise(side, language, unit) for side in _sides(text, column, language, progress)}
        for column, (language, unit) in enumerate(zip(files.languages, units, strict=True))
    )
    lines = (" ".join(tokens) for f, e in text.train for tokens in (source[f], target[e]))
    train_vocabulary(lines, work / "joint.model", training.pieces)
    vocabulary = SentencePieceModel.load(work / "joint.model")
    counts: dict[str, Any] = {"files": [dataclasses.asdict(file) for file in text.files]}
    for split, pairs in (("train", text.train), ("valid", text.valid)):
        rows = [(_pieces(vocabulary, source[f]), _pieces(vocabulary, target[e])) for f, e in pairs]
        full = [row for row in rows if all(row)]
        kept = [row for row in full if _fits(row, training)]
        if not kept:
            raise CorpusError(
                f"every {split} pair has more than translator.training.max_pieces = {training.max_pieces} "
                "pieces, or none; raise it"
            )
        for column, language in enumerate(files.languages):
            content = "".join(" ".join(row[column]) + "\n" for row in kept)
            write_whole_text(work / f"{split}.{language}", content)
        counts[split] = len(kept)
        if split == "train":
            counts["no_pieces"], counts["too_long"] = len(rows) - len(full), len(full) - len(kept)
            back = sum(file.pairs * file.repeat for file in text.translated_back)
            last = rows[len(rows) - back :]
            counts["translated_back"] = sum(all(row) and _fits(row, training) for row in last)
            counts["english"] = [dataclasses.asdict(file) for file in text.translated_back]
        else:
            counts["valid_left_out"] = len(rows) - len(kept)
    write_whole_text(done, canonical_json(counts))  # last: marks the other files as complete
    return counts


def _sides(text: TrainingText, column: int, language: str, progress: bool) -> "tqdm[str]":
    """Every distinct text of one side once: names and news lines may be repeated many times."""
    unique = dict.fromkeys(pair[column] for pair in [*text.train, *text.valid])
    return tqdm(unique, desc=f"tokenise {language}", unit="line", disable=bar_disabled(progress))


def _fits(row: tuple[list[str], list[str]], training: TranslatorTraining) -> bool:
    return max(map(len, row)) <= training.max_pieces


def _pieces(vocabulary: SentencePieceModel, tokens: Sequence[str]) -> list[str]:
    return [piece for token in tokens for piece in vocabulary.pieces(token)]
