"""Resolve the paths of a recipe: below ``BACKATTN_DATA`` or ``BACKATTN_CACHE``, or absolute."""

import os
import re
from pathlib import Path

from backattn.common.errors import RecipeError
from backattn.common.safe_text import plain, quoted

# Suffix of the folder beside a translator in which its training keeps each epoch.
EPOCHS = ".epochs"
# Values of variables that the environment does not set.
_VARIABLE_DEFAULTS = {"BACKATTN_DATA": "data", "BACKATTN_CACHE": "cache"}


def data_path(text: str) -> Path:
    """Resolve the path of a data file, with ``${VARIABLES}``; a relative one is below ``BACKATTN_DATA``."""
    return _resolve(text, "BACKATTN_DATA")


def model_path(text: str) -> Path:
    """Resolve the path of a model, with ``${VARIABLES}``; a relative one is below ``BACKATTN_CACHE``."""
    return _resolve(text, "BACKATTN_CACHE")


def cache_root() -> Path:
    """Return the folder ``BACKATTN_CACHE``, by default ``cache/``."""
    return Path(_variable("BACKATTN_CACHE", "BACKATTN_CACHE"))


def _resolve(text: str, root: str) -> Path:
    filled = re.sub(r"\$\{(\w+)\}", lambda match: _variable(match[1], text), text)
    if filled != text or os.path.isabs(filled):
        return Path(filled)
    return Path(_variable(root, text)) / filled


def _variable(name: str, text: str) -> str:
    value = os.environ.get(name) or _VARIABLE_DEFAULTS.get(name)
    if value is None:
        raise RecipeError(
            f"{plain(text)}: the environment variable {plain(name)} is not set; set it to a path"
        )
    # JSON files and messages contain the path, and must be valid text.
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise RecipeError(
            f"{plain(text)}: the environment variable {plain(name)} is {quoted(value)}, not UTF-8; set it to "
            "a path that is"
        )
    return value
