"""Where a recipe's files lie: below ``BACKATTN_DATA``, below ``BACKATTN_CACHE``, or where it says."""

import os
import re
from pathlib import Path

from backattn.common.errors import RecipeError
from backattn.common.safe_text import plain, quoted

# What follows the name of a translator's folder, where a training keeps each epoch beside it.
EPOCHS = ".epochs"
# Variables that a recipe may use without the environment naming them.
_VARIABLE_DEFAULTS = {"BACKATTN_DATA": "data", "BACKATTN_CACHE": "cache"}


def data_path(text: str) -> Path:
    """A path of a data file: ``${VARIABLES}`` filled in, relative ones below ``BACKATTN_DATA``."""
    return _resolve(text, "BACKATTN_DATA")


def model_path(text: str) -> Path:
    """A path of a model: ``${VARIABLES}`` filled in, relative ones below ``BACKATTN_CACHE``."""
    return _resolve(text, "BACKATTN_CACHE")


def cache_root() -> Path:
    """``BACKATTN_CACHE``, or ``cache/``."""
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
    # Its name will stand in files of JSON and in messages, which are text.
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise RecipeError(
            f"{plain(text)}: the environment variable {plain(name)} is {quoted(value)}, not UTF-8; set it to "
            "a path that is"
        )
    return value
