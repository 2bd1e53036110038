"""Fixed lists of settings, which ``--preset NAME`` applies to any recipe, before ``--set``.

A list also names settings that equal the defaults, so that a preset means the same for every recipe.
"""

from collections.abc import Mapping

# Section 3.2 of Sun, Yi and Chen 2019 (arXiv:1906.01183) to the letter, and T as eq. 5 gives it. The preset
# does not set tagger.embeddings, which differ by row. docs/paper.md says what the paper leaves open.
_PAPER: Mapping[str, str | float | bool] = {
    "transfer.states": "lstm",
    "transfer.source_states": False,
    "transfer.attention": "translator",
    "transfer.normalise": "none",
    "tagger.fusion": "output",
    "tagger.standardise": False,
    "tagger.characters": "none",
    "tagger.hidden": 256,
    "tagger.word_dropout": 0.1,
    "tagger.dropout": 0.5,
    "tagger.learning_rate": 0.1,
    "tagger.clip_norm": 0.0,
    "tagger.patience": 3,
    "tagger.anneal": 0.5,
    "tagger.batch": 16,
    "tagger.epochs": 150,
    "tagger.precision": "float32",
}
# Our reading of the abstract of Lyu et al. 2024, "Converse Attention Knowledge Transfer for Low-Resource
# Named Entity Recognition", whose text we have not seen: the word representations of English (the input of
# the English tagger's BiLSTM) are concatenated with those of the source (the input of our BiLSTM). The
# abstract does not say how CAN was trained, so that all other settings are the recipe's.
_CAN: Mapping[str, str | float | bool] = {
    "transfer.states": "embeddings",
    "transfer.source_states": False,
    "transfer.attention": "translator",
    "tagger.fusion": "input",
}
# Name -> dotted key of a recipe -> value.
PRESETS: Mapping[str, Mapping[str, str | float | bool]] = {"paper": _PAPER, "can": _CAN}


def preset_overrides(name: str) -> tuple[str, ...]:
    """Return the settings of a preset as the texts of ``--set``."""
    return tuple(f"{key}={str(value).lower()}" for key, value in PRESETS[name].items())
