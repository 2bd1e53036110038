"""``pipelines/*.toml`` -> frozen dataclasses. A configuration is a value.

A recipe is read once, checked whole and then only passed on. Unknown keys, missing keys and values of
the wrong type or range are refused with file and key. Defaults live here and nowhere deeper.
"""

import dataclasses
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from backattn.errors import MissingError, RecipeError

PIPELINES = Path("pipelines")
# Variables that a recipe may use without the environment naming them.
_VARIABLE_DEFAULTS = {"BACKATTN_DATA": "data", "BACKATTN_CACHE": "cache"}

Scheme = Literal["IOB1", "IOB2", "BIOES", "BMES"]
Unit = Literal["word", "character"]
EosPolicy = Literal["drop", "renormalise", "keep"]
Normalisation = Literal["none", "source"]


@dataclass(frozen=True, kw_only=True)
class ColumnFormat:
    """How to read one column file.

    :param token: column of the token, from 0; negative counts from the end of the line.
    :param tag: column of the tag.
    :param scheme: the tag scheme of the file; everything becomes BIOES.
    :param orphans: an I- of IOB2 that continues nothing is refused, or (as conlleval reads it) begins an
        entity and is counted. The released CoNLL-2002 and Weibo files have a few.
    :param separator: what stands between columns.
    :param encoding: a Python codec name.
    :param comment: lines that start with this text are no tokens; empty for none.
    :param docstart: token of lines that separate documents (``-DOCSTART-``); empty for none.
    :param segmentation_digit: each token ends in a digit that is no part of it (Weibo).
    :param types: entity type of the file -> type in the project; "" makes it O. Empty keeps all
        types as they are; otherwise a type that is not listed is refused.
    """

    token: int = 0
    tag: int = -1
    scheme: Scheme = "IOB2"
    orphans: Literal["refuse", "begin"] = "refuse"
    separator: Literal["whitespace", "tab"] = "whitespace"
    encoding: str = "utf-8"
    comment: str = ""
    docstart: str = ""
    segmentation_digit: bool = False
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe:
    """Where the three splits lie and how to read them.

    :param source: where a user gets the data; printed when a file is missing.
    :param unit: what a source token is: a word, or one Chinese character.
    :param groups: name of a score -> suffix of the entity types it counts (Weibo: NE = ".NAM").
    """

    train: str
    dev: str
    test: str
    source: str
    unit: Unit = "word"
    format: ColumnFormat = field(default_factory=ColumnFormat)
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ParallelFile:
    """One file of sentence pairs for training a translator.

    :param path: a TSV file; or, with ``english_path``, a file with one foreign sentence a line.
    :param english_path: the file whose lines are the English side; empty when it is a column.
    :param foreign, english: columns of the two sides, from 0.
    :param header: the first line names the columns.
    :param group: column that says where a pair comes from; -1 when there is none.
    :param only, exclude: values of ``group`` to take alone, or to leave out.
    :param repeat: how often the file counts in training.
    :param limit: take at most so many pairs, evenly spread; 0 takes all.
    """

    path: str
    english_path: str = ""
    foreign: int = 0
    english: int = 1
    header: bool = False
    group: int = -1
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    repeat: int = 1
    limit: int = 0


@dataclass(frozen=True, kw_only=True)
class TranslatorTraining:
    """How ``backattn translator train`` makes the checkpoint.

    :param architecture: fairseq's name of the model (``fconv_iwslt_de_en``, ``transformer_iwslt_de_en``).
    :param pieces: size of the joint sentencepiece vocabulary.
    :param learning_rates: one for each epoch; their number is the number of epochs.
    :param max_tokens: target pieces of a batch.
    :param max_pieces: longer training pairs are left out, and counted.
    :param average: how many of the last epochs' checkpoints are averaged into the result.
    :param precision: arithmetic of the training step; ``bfloat16`` is autocast.
    :param valid, test: held-out pairs for the perplexity and for BLEU; they are taken out of ``parallel``.
    :param test_limit: translate only so many test sentences for BLEU; 0 for all.
    """

    parallel: tuple[ParallelFile, ...]
    valid: ParallelFile
    test: ParallelFile
    architecture: str = "fconv_iwslt_de_en"
    pieces: int = 4000
    learning_rates: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5, 0.35, 0.2, 0.1)
    optimizer: Literal["nag", "adam"] = "nag"
    clip_norm: float = 0.1
    dropout: float = 0.1
    label_smoothing: float = 0.1
    max_tokens: int = 3500
    max_pieces: int = 175
    average: int = 3
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 1
    test_limit: int = 500


@dataclass(frozen=True, kw_only=True)
class TranslatorRecipe:
    """The translator and how it is asked.

    :param checkpoint: folder with ``checkpoint.pt``, ``dict.<source>.txt``, ``dict.en.txt`` and
        ``joint.model``; empty when ``hub`` is given.
    :param hub: a fairseq hub name (``transformer.wmt19.de-en``); empty when ``checkpoint`` is given.
    :param source: language code of the source side.
    :param beam: width of the beam search.
    :param max_len_a, max_len_b: a translation has at most a * pieces + b pieces (tight: runaways).
    :param segment_pieces: a longer source is translated in segments; A becomes block-diagonal.
    :param batch_tokens: source pieces of a batch, padding included; does not change the numbers.
    """

    checkpoint: str = ""
    hub: str = ""
    source: str
    beam: int = 4
    max_len_a: float = 1.3
    max_len_b: int = 10
    segment_pieces: int = 175
    batch_tokens: int = 4000
    training: TranslatorTraining | None = None


@dataclass(frozen=True, kw_only=True)
class EnglishFile:
    """One English column file for training the English tagger.

    :param use: ``train``, ``dev``, ``test``, or ``split`` (every tenth sentence is test, the one
        before it dev, the rest train).
    :param limit: take at most so many sentences, evenly spread; 0 takes all.
    """

    path: str
    use: Literal["train", "dev", "test", "split"] = "train"
    format: ColumnFormat = field(default_factory=ColumnFormat)
    limit: int = 0


@dataclass(frozen=True, kw_only=True)
class EnglishTraining:
    """How ``backattn english train`` makes the tagger with flair's own trainer."""

    files: tuple[EnglishFile, ...]
    word_dimensions: int = 100
    character_dimensions: int = 25
    min_count: int = 2
    hidden: int = 256
    dropout: float = 0.1
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = 0.002
    batch: int = 32
    epochs: int = 8
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class EnglishRecipe:
    """The English tagger.

    :param checkpoint: a flair model file; empty when ``hub`` is given.
    :param hub: a flair hub name (``flair/ner-english``); empty when ``checkpoint`` is given.
    :param sha256: digest that the file must have; flair files are pickles, so one without a pin
        needs ``--trust`` (or the manifest that ``english train`` writes).
    :param batch_tokens: English tokens of a batch; does not change the numbers.
    """

    checkpoint: str = ""
    hub: str = ""
    sha256: str = ""
    batch_tokens: int = 4000
    training: EnglishTraining | None = None


@dataclass(frozen=True, kw_only=True)
class TransferRecipe:
    """From A and R to T (section "From pieces to tokens" of the README)."""

    eos: EosPolicy = "drop"
    normalise: Normalisation = "none"
    dtype: Literal["float16", "float32"] = "float16"


@dataclass(frozen=True, kw_only=True)
class TaggerRecipe:
    """Stage two: the BiLSTM-CRF of section 3.2. The defaults are the paper's settings.

    :param embeddings: fastText vectors in text format; empty trains word vectors from scratch.
    :param word_dimensions: width of the word vectors trained from scratch.
    :param characters: encoder of the characters of a word; ``none`` for Chinese.
    :param character_dimensions: width of its result.
    :param patience: epochs without a lower training loss before the learning rate is annealed.
    :param anneal: factor of that annealing.
    :param sentences: train on a nested sample of so many training sentences; 0 takes all.
    :param precision: arithmetic of the BiLSTM's training step. ``bfloat16`` is autocast: other numbers,
        within the noise of seeds, and up to twice as fast on processors that know it.
    """

    embeddings: str = ""
    word_dimensions: int = 100
    characters: Literal["none", "cnn", "lstm"] = "none"
    character_dimensions: int = 50
    hidden: int = 256
    word_dropout: float = 0.1
    dropout: float = 0.5
    learning_rate: float = 0.1
    clip_norm: float = 5.0
    patience: int = 3
    anneal: float = 0.5
    batch: int = 16
    epochs: int = 150
    sentences: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One LANG: the whole way from column files to scores."""

    name: str
    corpus: CorpusRecipe
    translator: TranslatorRecipe
    english: EnglishRecipe
    transfer: TransferRecipe = field(default_factory=TransferRecipe)
    tagger: TaggerRecipe = field(default_factory=TaggerRecipe)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read ``pipelines/<name>.toml``, or a path that ends in ``.toml``.

    :param overrides: ``key.path=value`` texts that replace single values (``tagger.epochs=3``).
    :raises MissingError: there is no such recipe.
    :raises RecipeError: names the file and the key.
    """
    table, path = _read(name, overrides)
    if "corpus" not in table:
        raise RecipeError(
            f"{path}: no [corpus] table: this recipe has no LANG to run; "
            f"choose one of {', '.join(available_recipes()) or 'none here'}"
        )
    recipe = _build(Recipe, {"name": path.stem, **table}, str(path), "")
    for key, part in (("translator", recipe.translator), ("english", recipe.english)):
        if bool(part.checkpoint) == bool(part.hub):
            raise RecipeError(f"{path}: {key}: give exactly one of checkpoint and hub")
    _check_ranges(recipe, str(path))
    return recipe


def load_english(name: str, overrides: Sequence[str] = ()) -> EnglishRecipe:
    """Read the ``[english]`` table alone, with the training that it must hold.

    A recipe that only describes an English tagger (``pipelines/english.toml``) needs nothing else.
    """
    table, path = _read(name, overrides)
    if "training" not in table.get("english", {}):
        raise RecipeError(
            f"{path}: no [english.training]: this recipe says nothing about training an English "
            "tagger; `backattn english train english` does"
        )
    return _build(EnglishRecipe, table["english"], str(path), "english")


def available_recipes() -> list[str]:
    """Names of the recipes of ``pipelines/`` that describe a LANG."""
    return sorted(
        path.stem
        for path in PIPELINES.glob("*.toml")
        if re.search(r"^\[corpus\]", path.read_text("utf-8"), re.M)
    )


def data_path(text: str) -> Path:
    """A path of a data file: ``${VARIABLES}`` filled in, relative ones below ``BACKATTN_DATA``."""
    return _resolve(text, "BACKATTN_DATA")


def model_path(text: str) -> Path:
    """A path of a model: ``${VARIABLES}`` filled in, relative ones below ``BACKATTN_CACHE``."""
    return _resolve(text, "BACKATTN_CACHE")


def cache_root() -> Path:
    """``BACKATTN_CACHE``, or ``cache/``."""
    return Path(_variable("BACKATTN_CACHE", "BACKATTN_CACHE"))


def as_json(recipe: Any) -> dict[str, Any]:
    """A (part of a) recipe as plain JSON values, for digests and for the artefacts."""
    return typing.cast(dict[str, Any], _plain(recipe))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def from_json(table: Mapping[str, Any], where: str) -> Recipe:
    """The inverse of :func:`as_json` for a whole recipe (a run folder keeps its own)."""
    return _build(Recipe, table, where, "")


def _variable(name: str, text: str) -> str:
    value = os.environ.get(name) or _VARIABLE_DEFAULTS.get(name)
    if value is None:
        raise RecipeError(f"{text}: the environment variable {name} is not set; set it to a path")
    return value


def _resolve(text: str, root: str) -> Path:
    filled = re.sub(r"\$\{(\w+)\}", lambda match: _variable(match[1], text), text)
    if filled != text or os.path.isabs(filled):
        return Path(filled)
    return Path(_variable(root, text)) / filled


def _read(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Path]:
    path = Path(name) if name.endswith(".toml") else PIPELINES / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        known = ", ".join(available_recipes()) or "none: run from the folder that holds pipelines/"
        raise MissingError(f"{path}: no such recipe; here are {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: not readable as TOML: {error}") from None
    for override in overrides:
        _override(table, override)
    return table, path


def _override(table: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise RecipeError(f"--set {override}: expected KEY=VALUE, as in tagger.epochs=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: --set transfer.eos=keep
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: {parent} is a value, not a table")
    table[last] = value


_T = TypeVar("_T")


def _build(cls: type[_T], table: Any, path: str, key: str) -> _T:
    """Fill a dataclass from a TOML table, refusing what does not fit, with file and key."""
    if not isinstance(table, Mapping):
        raise RecipeError(f"{path}: {key}: expected a table, found {table!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    dotted = f"{key}." if key else ""
    for name in table:
        if name not in fields:
            raise RecipeError(f"{path}: {dotted}{name}: unknown key; expected one of {', '.join(fields)}")
    values = {name: _convert(hints[name], value, path, dotted + name) for name, value in table.items()}
    for name, described in fields.items():
        required = (
            described.default is dataclasses.MISSING and described.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise RecipeError(f"{path}: {dotted}{name}: missing key")
    return cls(**values)


def _convert(hint: Any, value: Any, path: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            choices = ", ".join(map(str, arguments))
            raise RecipeError(f"{path}: {key}: expected one of {choices}; found {value!r}")
        return value
    if origin is types.UnionType:  # only `X | None`
        return None if value is None else _convert(arguments[0], value, path, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{path}: {key}: expected a list, found {value!r}")
        return tuple(_convert(arguments[0], item, path, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{path}: {key}: expected a table, found {value!r}")
        return {name: _convert(arguments[1], item, path, f"{key}.{name}") for name, item in value.items()}
    if origin is None and dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, path, key)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise RecipeError(f"{path}: {key}: expected {hint.__name__}, found {value!r}")
    return value


# Keys that must be above zero, and keys that are a share of one: checked for the whole recipe at once.
_POSITIVE = {"beam", "max_len_b", "segment_pieces", "batch_tokens", "word_dimensions", "hidden",
             "learning_rate", "batch", "epochs", "character_dimensions", "patience", "pieces",
             "max_tokens", "max_pieces", "average", "repeat", "clip_norm", "min_count"}  # fmt: skip
_SHARES = {"word_dropout", "dropout", "anneal", "label_smoothing"}
_NATURAL = {"sentences", "limit", "test_limit", "seed"}


def _check_ranges(part: Any, path: str, key: str = "") -> None:
    for name in (f.name for f in dataclasses.fields(part)):
        value, dotted = getattr(part, name), f"{key}{name}"
        if dataclasses.is_dataclass(value):
            _check_ranges(value, path, f"{dotted}.")
        elif name in _POSITIVE and not value > 0:
            raise RecipeError(f"{path}: {dotted}: expected more than 0, found {value}")
        elif name in _SHARES and not 0 <= value < 1:
            raise RecipeError(f"{path}: {dotted}: expected at least 0 and below 1, found {value}")
        elif name in _NATURAL and value < 0:
            raise RecipeError(f"{path}: {dotted}: expected 0 or more, found {value}")
