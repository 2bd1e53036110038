"""Read ``training.json``, the manifest that a finished training leaves beside its model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from backattn.common.errors import ModelError
from backattn.common.json_files import read_table
from backattn.common.safe_text import quoted

MANIFEST = "training.json"

_T = TypeVar("_T")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished folder.

    :raises MissingError: there is none.
    :raises ModelError: it is damaged.
    """
    return read_table(folder / MANIFEST, train_anew(folder))


def read_report_as(
    report: type[_T],
    folder: Path,
    values: Callable[[dict[str, Any]], Mapping[str, Any]] = itemgetter("report"),
) -> _T:
    """Read the report of a finished folder into its dataclass.

    :param values: picks the report's JSON values from the manifest; its ``folder`` is where it lies now.
    :raises MissingError: there is no manifest.
    :raises ModelError: it is damaged: a value is missing or of another type.
    """
    manifest = read_manifest(folder)
    with damage_as_model_error(folder / MANIFEST):
        found = {**values(manifest), "folder": str(folder)}
        return msgspec.convert(found, report, dec_hook=lambda kind, value: kind(value))


@contextmanager
def damage_as_model_error(path: Path) -> Iterator[None]:
    """Turn errors of converting a training's file into one that names the file.

    :raises ModelError: in place of the error.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: damaged ({quoted(error)}); {train_anew(path.parent)}") from None


def train_anew(folder: Path) -> str:
    """Advice for messages about a damaged file of a training."""
    return f"delete {folder} to train anew"
