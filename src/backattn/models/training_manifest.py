"""Read ``training.json``, which a finished training leaves beside its model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backattn.common.errors import ModelError
from backattn.common.json_files import read_table
from backattn.common.safe_text import quoted

MANIFEST = "training.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged.
    """
    return read_table(folder / MANIFEST, train_anew(folder))


@contextmanager
def damage_as_model_error(path: Path) -> Iterator[None]:
    """What does not fit while a file of a training is made out, is damage of that file.

    :raises ModelError: in place of the error.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: damaged ({quoted(error)}); {train_anew(path.parent)}") from None


def train_anew(folder: Path) -> str:
    """What to do about a damaged file of a training."""
    return f"delete {folder} to train anew"
