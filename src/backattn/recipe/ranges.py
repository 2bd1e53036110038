"""What the values of a recipe may be, beyond their types; the whole recipe is checked at once."""

import dataclasses
import re
from typing import Any

from backattn.errors import RecipeError
from backattn.quoting import quoted
from backattn.recipe.embeddings import CharLmTraining
from backattn.recipe.schema import PaperFigure, Recipe
from backattn.recipe.trainings import BackTranslation

# Keys that must be above zero, at least zero, and a share of one.
_POSITIVE = {"beam", "max_len_b", "segment_pieces", "batch_tokens", "word_dimensions", "hidden",
             "learning_rate", "learning_rates", "batch", "epochs", "character_dimensions", "patience",
             "pieces", "max_tokens", "max_pieces", "average", "repeat", "clip_norm", "min_count",
             "sequence"}  # fmt: skip
_NATURAL = {"sentences", "limit", "test_limit", "seed", "max_len_a", "foreign", "english", "window"}
_PERCENT = {"base", "ban"}
_SHARES = {"word_dropout", "dropout", "anneal", "label_smoothing"}
# Lists without which there is nothing to do; but a character language model can learn from the corpus alone,
# and English text stand in column files alone.
_FILLED = {"learning_rates", "parallel", "files"}
_MAY_BE_EMPTY = {(CharLmTraining, "files"), (BackTranslation, "parallel")}
# The rows of the paper's tables, as `backattn report` names models.
_MODEL = re.compile(r"((fastText|CharLM|BERT)\+)*BiLSTM\+CRF|")
_DIGEST = re.compile("[0-9A-Fa-f]{64}")
# A language code is part of file names (dict.<source>.txt) and of fairseq's own command line.
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8}){0,3}")


def check_ranges(part: Any, path: str, key: str = "") -> None:
    """Check every value of a (part of a) recipe.

    :param path, key: where it stands, for the message; the key ends in a dot.
    :raises RecipeError: names the file and the key.
    """
    if isinstance(part, Recipe) and part.paper is not None:
        for number, figure in enumerate(part.paper.figures):
            _check_figure(figure, ["Overall", *part.corpus.groups], path, f"paper.figures[{number}]")
    for name in (f.name for f in dataclasses.fields(part)):
        value, dotted = getattr(part, name), f"{key}{name}"
        if dataclasses.is_dataclass(value):
            check_ranges(value, path, f"{dotted}.")
        elif isinstance(value, tuple):
            if not value and name in _FILLED and (type(part), name) not in _MAY_BE_EMPTY:
                raise RecipeError(f"{path}: {dotted}: expected at least one, found an empty list")
            for number, item in enumerate(value):
                if dataclasses.is_dataclass(item):
                    check_ranges(item, path, f"{dotted}[{number}].")
                else:
                    _check(name, item, path, f"{dotted}[{number}]")
        elif not (name == "word_dimensions" and value == 0 and getattr(part, "embeddings", ())):
            # No word vectors of its own only where a tagger has frozen ones.
            _check(name, value, path, dotted)


def _check_figure(figure: PaperFigure, measures: list[str], path: str, key: str) -> None:
    """A figure of the paper stands beside one of ours, so it must be of a model and a measure of ours."""
    if not _MODEL.fullmatch(figure.model):
        raise RecipeError(
            f"{path}: {key}.model: expected a base as CharLM+BiLSTM+CRF, or BERT or nothing in place of "
            f"CharLM; found {quoted(figure.model)}"
        )
    if figure.measure not in ("", *measures):
        raise RecipeError(
            f"{path}: {key}.measure: expected one of {', '.join(measures)} (corpus.groups names them); "
            f"found {quoted(figure.measure)}"
        )
    if figure.lift is not None and figure.base is not None and figure.ban is not None:
        raise RecipeError(f"{path}: {key}.lift: is ban less base already; take one of the three away")


def _check(name: str, value: Any, path: str, key: str) -> None:
    expected = ""
    if name in _POSITIVE and isinstance(value, int | float) and not value > 0:
        expected = "more than 0"
    elif name in _SHARES and not 0 <= value < 1:
        expected = "at least 0 and below 1"
    elif name in _NATURAL and isinstance(value, int | float) and value < 0:
        expected = "0 or more"
    elif name in _PERCENT and isinstance(value, int | float) and not 0 <= value <= 100:
        expected = "an F1 in percent"
    elif name in {"group", "column"} and value < -1:
        expected = "a column from 0, or -1 for none"
    elif name == "sha256" and not _DIGEST.fullmatch(value) and not (value == "" and key.endswith(name)):
        expected = "a digest of 64 hexadecimal digits"
    elif name == "source" and key.startswith("translator.") and not _LANGUAGE.fullmatch(value):
        expected = "a language code, as de or zh_CN"
    if expected:
        raise RecipeError(f"{path}: {key}: expected {expected}, found {quoted(value)}")
