"""Read the predictions that a run keeps of dev and test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backattn.common.errors import MissingError, ModelError
from backattn.common.regular_files import read_regular
from backattn.tagger.run import RunFolder

# Splits whose predictions a run keeps.
PREDICTED = ("test", "dev")
_COLUMNS = 3


@dataclass(frozen=True)
class Predicted:
    """A sentence with its gold tags and those that a run predicted."""

    tokens: tuple[str, ...]
    gold: tuple[str, ...]
    tags: tuple[str, ...]


def read_predictions(folder: Path, split: str) -> tuple[Predicted, ...]:
    """Read the predictions of a run for dev or test, in the order of the corpus.

    :param folder: of a finished run.
    :raises MissingError: the file is missing.
    :raises ModelError: the file is damaged.
    """
    files = RunFolder(folder)
    if not files.manifest.is_file():
        raise MissingError(
            f"{folder}: no finished run; `backattn train LANG` makes one below cache/LANG/runs"
        )
    path = files.predictions(split)
    try:
        text = read_regular(path).decode("utf-8")
    except FileNotFoundError:
        raise MissingError(f"{path}: missing; remove the folder and train again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable ({error}); remove the folder and train again") from None
    return tuple(_blocks(path, text))


def _blocks(path: Path, text: str) -> Iterator[Predicted]:
    for block in text.split("\n\n"):
        rows = [line.split("\t") for line in block.split("\n") if line]
        if any(len(row) != _COLUMNS for row in rows):
            raise ModelError(f"{path}: expected token, gold and predicted tag; train again")
        if rows:
            tokens, gold, tags = (tuple(column) for column in zip(*rows, strict=True))
            yield Predicted(tokens, gold, tags)
