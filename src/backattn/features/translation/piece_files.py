"""Sentence pairs -> files of pieces, as the training reads them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backattn.errors import ModelError
from backattn.features.translation.parallel import TrainingText
from backattn.features.translation.vocabulary import Vocabulary, tokenise, train_vocabulary
from backattn.features.work_folder import train_anew
from backattn.files import write_whole_text
from backattn.fingerprint import canonical_json
from backattn.json_files import read_table
from backattn.recipe import TranslatorTraining, Unit


@dataclass(frozen=True)
class PieceFiles:
    """Where the pieces lie: one sentence a line, pieces separated by spaces.

    :param folder: holds ``train.<source>``, ``train.en``, ``valid.<source>`` and ``valid.en``.
    :param source: language code of the source side.
    """

    folder: Path
    source: str

    def lines(self, split: str, language: str) -> list[list[str]]:
        """The sentences of one side of ``train`` or ``valid`` as lists of pieces."""
        path = self.folder / f"{split}.{language}"
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise ModelError(f"{path}: missing or damaged; {train_anew(self.folder)}") from None
        return [line.split(" ") for line in text.split("\n")[:-1]]


def prepare(
    text: TrainingText, work: Path, *, source: str, unit: Unit, training: TranslatorTraining, progress: bool
) -> dict[str, Any]:
    """Tokenise, learn the joint pieces (``joint.model``), and write each side as lines of pieces.

    What an earlier run finished is not done again.

    :returns: counts of the pairs that were written and left out.
    """
    done = work / "prepared.json"
    if done.exists():
        return read_table(done, train_anew(work))
    foreign = {side: tokenise(side, source, unit) for side in _sides(text, 0, f"tokenise {source}", progress)}
    english = {side: tokenise(side, "en", "word") for side in _sides(text, 1, "tokenise en", progress)}
    lines = (" ".join(tokens) for pair in text.train for tokens in (foreign[pair[0]], english[pair[1]]))
    train_vocabulary(lines, work / "joint.model", training.pieces)
    vocabulary = Vocabulary.load(work / "joint.model")
    counts: dict[str, Any] = {"files": [dataclasses.asdict(file) for file in text.files]}
    for split, pairs in (("train", text.train), ("valid", text.valid)):
        rows = [(_pieces(vocabulary, foreign[f]), _pieces(vocabulary, english[e])) for f, e in pairs]
        full = [row for row in rows if all(row)]
        kept = [row for row in full if max(map(len, row)) <= training.max_pieces]
        for language, column in ((source, 0), ("en", 1)):
            content = "".join(" ".join(row[column]) + "\n" for row in kept)
            write_whole_text(work / f"{split}.{language}", content)
        counts[split] = len(kept)
        if split == "train":
            counts["no_pieces"], counts["too_long"] = len(rows) - len(full), len(full) - len(kept)
        else:
            counts["valid_left_out"] = len(rows) - len(kept)
    write_whole_text(done, canonical_json(counts))  # last: it says that the rest is complete
    return counts


def _sides(text: TrainingText, column: int, name: str, progress: bool) -> "tqdm[str]":
    """Every different text of one side once: names and news lines may be repeated many times."""
    unique = dict.fromkeys(pair[column] for pair in [*text.train, *text.valid])
    return tqdm(unique, desc=name, unit="line", disable=not progress)


def _pieces(vocabulary: Vocabulary, tokens: Sequence[str]) -> list[str]:
    return [piece for token in tokens for piece in vocabulary.pieces(token)]
