"""What is opened of a folder of transformers, and what its settings may say. Loads no model.

transformers itself lets a folder choose the code that opens it: a ``config.json`` can grant itself trust for
a model inside of it, and some of its loaders run a Python file that lies beside the weights. So its loaders
are never pointed at such a folder. The types of models are a closed list here, each with the settings that
it is built from; what else a folder says is left out, and what names code or another place is refused.

The files that :func:`marian_files` and :func:`read_encoder` name are all that is opened, and all that a
model's digest is made of.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError, ModelError
from backattn.common.json_files import read_table
from backattn.common.safe_text import listed, quoted

CONFIG = "config.json"
SAFETENSORS, PICKLE, INDEX = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"
# A Marian model's own; a vocabulary of the English side's own has who does not share one.
VOCABULARY, TARGET_VOCABULARY = "vocab.json", "target_vocab.json"
SOURCE_PIECES, TARGET_PIECES = "source.spm", "target.spm"
# A tokenizer's, whatever its kind.
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip

ADVICE = "copy the model's folder again"
_LARGEST_SETTINGS = 1 << 24
_LARGEST_WORDS = 1 << 28
_LARGEST_NUMBER = 1 << 31
# Marian's are computed one by one when it is opened: a folder must not say a billion. opus-mt: 512 or 1024.
_MOST_POSITIONS = 1 << 12

# How much longer a text may become before it is cut into pieces. XLM-RoBERTa's: 128 at most.
_MOST_GROWTH = 1 << 14

# Names of settings that lead to code, or to a file or model elsewhere.
_FOREIGN = re.compile(
    r"auto_map|.*name_or_path|.*backbone.*|trust_remote_code|custom_.*|transformers_weights", re.I
)
# Where a model came from, a note that nothing opens: published models carry it, at the top of a file.
_ORIGIN = ("_name_or_path", "name_or_path")
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True)
class _Kind:
    """What a setting may be.

    :param words: for messages.
    """

    words: str
    fits: Callable[[Any], bool]


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) < _LARGEST_NUMBER


def _is_piece(value: object) -> bool:
    """A special piece: its text, or a table of that and of how it stands in a text."""
    if not isinstance(value, dict):
        return isinstance(value, str)
    return isinstance(value.get("content"), str) and all(
        isinstance(own, bool) if key in _PIECE_SWITCHES else key in ("content", "__type", "id")
        for key, own in value.items()
    )


_PIECE_SWITCHES = ("lstrip", "rstrip", "single_word", "normalized", "special")
_WHOLE = _Kind("a whole number", _is_whole)
_COUNT = _Kind("a whole number above 0", lambda value: _is_whole(value) and value > 0)
_POSITIONS = _Kind(
    f"a whole number up to {_MOST_POSITIONS}", lambda value: _is_whole(value) and 0 < value <= _MOST_POSITIONS
)
_PIECE_NUMBER = _Kind("a whole number", lambda value: value is None or _is_whole(value))
_NUMBER = _Kind(
    "a number", lambda value: type(value) is int or (type(value) is float and math.isfinite(value))
)
_SWITCH = _Kind("true or false", lambda value: isinstance(value, bool))
_SWITCH_OR_NONE = _Kind("true, false or null", lambda value: value is None or isinstance(value, bool))
_NAME = _Kind("a text", lambda value: isinstance(value, str))
_NAME_OR_NONE = _Kind("a text", lambda value: value is None or isinstance(value, str))
_NAMES = _Kind(
    "a text, or a list of texts",
    lambda value: value is None or all(isinstance(name, str) for name in value)
    if isinstance(value, str | list | None) else False,
)  # fmt: skip
_PIECE = _Kind("a piece", lambda value: value is None or _is_piece(value))
_PIECES = _Kind(
    "a list of pieces",
    lambda value: value is None or (isinstance(value, list) and all(map(_is_piece, value))),
)
_NUMBERED_PIECES = _Kind(
    "pieces by their numbers",
    lambda value: isinstance(value, dict)
    and all(
        number.isascii() and number.isdigit() and len(number) < 10 and isinstance(piece, dict)
        and _is_piece(piece) for number, piece in value.items()
    ),
)  # fmt: skip

# What a model is built from, by its type: what the configuration class of transformers takes, less dropout
# and beginnings of a training, tasks, and whatever names code or places.
MARIAN = "marian"
_MARIAN = {
    "vocab_size": _COUNT, "decoder_vocab_size": _PIECE_NUMBER, "max_position_embeddings": _POSITIONS,
    "d_model": _COUNT, "encoder_layers": _COUNT, "encoder_ffn_dim": _COUNT, "encoder_attention_heads": _COUNT,
    "decoder_layers": _COUNT, "decoder_ffn_dim": _COUNT, "decoder_attention_heads": _COUNT,
    "activation_function": _NAME, "scale_embedding": _SWITCH, "share_encoder_decoder_embeddings": _SWITCH,
    "tie_word_embeddings": _SWITCH, "pad_token_id": _PIECE_NUMBER, "eos_token_id": _PIECE_NUMBER,
    "decoder_start_token_id": _PIECE_NUMBER,
}  # fmt: skip
_SHARED = {
    "vocab_size": _COUNT, "max_position_embeddings": _COUNT, "pad_token_id": _PIECE_NUMBER,
    "is_encoder_decoder": _SWITCH,
}  # fmt: skip
_BERT = {
    **_SHARED,
    "hidden_size": _COUNT, "num_hidden_layers": _COUNT, "num_attention_heads": _COUNT,
    "intermediate_size": _COUNT, "hidden_act": _NAME, "type_vocab_size": _WHOLE, "layer_norm_eps": _NUMBER,
    "position_embedding_type": _NAME, "is_decoder": _SWITCH,
}  # fmt: skip
_DISTILBERT = {
    **_SHARED,
    "n_layers": _COUNT, "n_heads": _COUNT, "dim": _COUNT, "hidden_dim": _COUNT, "activation": _NAME,
    "sinusoidal_pos_embds": _SWITCH,
}  # fmt: skip
_DEBERTA = {
    **_BERT,
    "relative_attention": _SWITCH, "max_relative_positions": _WHOLE, "position_biased_input": _SWITCH,
    "pos_att_type": _NAMES, "position_buckets": _WHOLE, "norm_rel_ebd": _NAME_OR_NONE,
    "share_att_key": _SWITCH, "conv_kernel_size": _WHOLE, "conv_groups": _COUNT, "conv_act": _NAME,
    "embedding_size": _COUNT, "attention_head_size": _COUNT,
}  # fmt: skip


@dataclass(frozen=True)
class _EncoderType:
    """:param tokenizer: the class of a folder that names none."""

    fields: Mapping[str, _Kind]
    tokenizer: str


ENCODERS = {
    "bert": _EncoderType(_BERT, "BertTokenizerFast"),
    "camembert": _EncoderType(_BERT, "CamembertTokenizerFast"),
    "deberta-v2": _EncoderType(_DEBERTA, "DebertaV2TokenizerFast"),
    "distilbert": _EncoderType(_DISTILBERT, "DistilBertTokenizerFast"),
    "electra": _EncoderType({**_BERT, "embedding_size": _COUNT}, "ElectraTokenizerFast"),
    "roberta": _EncoderType(_BERT, "RobertaTokenizerFast"),
    "xlm-roberta": _EncoderType(_BERT, "XLMRobertaTokenizerFast"),
}
# Class of a tokenizer -> the files that it is made from where there is no tokenizer.json.
TOKENIZERS = {
    "BertTokenizerFast": ("vocab.txt",),
    "CamembertTokenizerFast": ("sentencepiece.bpe.model",),
    "DebertaV2TokenizerFast": ("spm.model",),
    "DistilBertTokenizerFast": ("vocab.txt",),
    "ElectraTokenizerFast": ("vocab.txt",),
    "PreTrainedTokenizerFast": (),
    "RobertaTokenizerFast": ("vocab.json", "merges.txt"),
    "XLMRobertaTokenizerFast": ("sentencepiece.bpe.model",),
}
_SPECIAL = {
    **dict.fromkeys(
        ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"), _PIECE
    ),
    "additional_special_tokens": _PIECES,
}
_TOKENIZER = {
    **_SPECIAL,
    "added_tokens_decoder": _NUMBERED_PIECES, "model_max_length": _NUMBER, "do_lower_case": _SWITCH,
    "strip_accents": _SWITCH_OR_NONE, "tokenize_chinese_chars": _SWITCH, "trim_offsets": _SWITCH,
    "split_by_punct": _SWITCH, "split_special_tokens": _SWITCH, "errors": _NAME,
}  # fmt: skip


@dataclass(frozen=True)
class EncoderFolder:
    """An encoder as BERT is one, with its tokenizer, before anything is opened.

    :param kind: one of :data:`ENCODERS`.
    :param settings: of its configuration.
    :param tokenizer: one of :data:`TOKENIZERS`.
    :param weights: names of files of safetensors.
    :param words: names of the tokenizer's files that are shown to transformers as they are.
    :param rewritten: name of a tokenizer's file of settings -> what of it is shown.
    :param files: names of all files, sorted.
    """

    kind: str
    settings: Mapping[str, Any]
    tokenizer: str
    weights: tuple[str, ...]
    words: tuple[str, ...]
    rewritten: Mapping[str, Mapping[str, Any]]
    files: tuple[str, ...]


def read_encoder(folder: Path) -> EncoderFolder:
    """Look at a folder as ``save_pretrained`` of a model and of its tokenizer leave it.

    :raises MissingError: it has no configuration.
    :raises ModelError: it is damaged, of a type that is not opened here, or names code or another place.
    """
    table = read_settings(folder / CONFIG)
    kind = table.get("model_type")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise ModelError(
            f"{folder}: transformers calls its type {quoted(kind)}; those that are opened here are "
            f"{listed(list(ENCODERS))}"
        )
    settings = _known(folder / CONFIG, table, ENCODERS[kind].fields)
    weights, index = _encoder_weights(folder)
    own, rewritten = {}, {}
    if is_file(folder / TOKENIZER_CONFIG):
        own = read_settings(folder / TOKENIZER_CONFIG)
        rewritten[TOKENIZER_CONFIG] = _known(folder / TOKENIZER_CONFIG, own, _TOKENIZER)
    if is_file(folder / SPECIAL_TOKENS):
        special = read_settings(folder / SPECIAL_TOKENS)
        rewritten[SPECIAL_TOKENS] = _known(folder / SPECIAL_TOKENS, special, _SPECIAL)
    if is_file(folder / ADDED_TOKENS):
        rewritten[ADDED_TOKENS] = _added_tokens(folder / ADDED_TOKENS)
    named = own.get("tokenizer_class") or table.get("tokenizer_class") or ENCODERS[kind].tokenizer
    tokenizer = _tokenizer_class(folder, named)
    words = _words(folder, tokenizer)
    # Where none is named, transformers would look for one in config.json, which it is not shown.
    rewritten[TOKENIZER_CONFIG] = {**rewritten.get(TOKENIZER_CONFIG, {}), "tokenizer_class": tokenizer}
    there = (name for name in rewritten if is_file(folder / name))
    files = (CONFIG, *index, *weights, *words, *there)
    return EncoderFolder(kind, settings, tokenizer, weights, words, rewritten, tuple(sorted(files)))


def marian_settings(folder: Path) -> dict[str, Any]:
    """What a Marian model is built from.

    :raises MissingError: it has no configuration.
    :raises ModelError: it is damaged, of another type, or names code or another place.
    """
    table = read_settings(folder / CONFIG)
    kind = table.get("model_type")
    if kind != MARIAN:
        raise ModelError(
            f"{folder}: transformers calls its type {quoted(kind)}; the only one that translates here is "
            f"'{MARIAN}' (opus-mt)"
        )
    return _known(folder / CONFIG, table, _MARIAN)


def marian_files(folder: Path) -> tuple[str, ...]:
    """Names of all files that a Marian model is opened from, sorted.

    :raises MissingError: one of them is not there.
    :raises ModelError: one of them is no file that a model has.
    """
    weights = PICKLE if is_file(folder / PICKLE) and not is_file(folder / SAFETENSORS) else SAFETENSORS
    names = [CONFIG, SOURCE_PIECES, TARGET_PIECES, VOCABULARY, weights]
    for name in names:
        if not is_file(folder / name):
            raise MissingError(f"{folder / name}: not there; copy the Marian model's folder whole")
    names += [TARGET_VOCABULARY] if is_file(folder / TARGET_VOCABULARY) else []
    for name in names:
        _check_size(folder / name, math.inf if name == weights else _LARGEST_WORDS)
    return tuple(sorted(names))


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON table of settings.

    :raises MissingError: there is no such file.
    :raises ModelError: it is damaged, or names code or another place, at any depth.
    """
    if is_file(path):
        _check_size(path, _LARGEST_SETTINGS)
    table = read_table(path, ADVICE)
    waiting: list[Any] = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            for key, inner in value.items():
                # A number names nothing; neither does false, which says that there is none.
                leads = inner is True or (isinstance(inner, str | list | dict) and bool(inner))
                note = value is table and key in _ORIGIN and isinstance(inner, str)
                if leads and not note and _FOREIGN.fullmatch(key):
                    raise ModelError(
                        f"{path}: {quoted(key)} names code or a model elsewhere, which is never opened; "
                        "use a model that has no such setting"
                    )
            waiting += value.values()
    return table


def refuse_growth(path: Path) -> None:
    """Refuse a ``tokenizer.json`` that makes a letter a book: each of its steps may double a text, or more.

    :raises ModelError: it does, or is damaged.
    """
    table = read_table(path, ADVICE)
    waiting: list[Any] = [table.get("normalizer"), table.get("pre_tokenizer")]
    growth = 1
    while waiting and growth <= _MOST_GROWTH:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            content = value.get("content")
            growth *= (2 if "type" in value else 1) * (1 + len(content) if isinstance(content, str) else 1)
    if growth > _MOST_GROWTH:
        raise ModelError(
            f"{path}: the steps before its pieces may make a text {_MOST_GROWTH:,} times as long, or "
            f"more; {ADVICE}"
        )


def _known(path: Path, table: Mapping[str, Any], fields: Mapping[str, _Kind]) -> dict[str, Any]:
    """The settings that are passed on.

    :raises ModelError: one of them is not of its kind.
    """
    found = {key: table[key] for key in fields if key in table}
    for key, value in found.items():
        if not fields[key].fits(value):
            raise ModelError(f"{path}: {key}: expected {fields[key].words}, found {quoted(value)}; {ADVICE}")
    return found


def _added_tokens(path: Path) -> dict[str, int]:
    """Pieces -> numbers. Any piece may be the name of a setting as well, so names are not looked at."""
    _check_size(path, _LARGEST_WORDS)
    table = read_table(path, ADVICE)
    if not all(_is_whole(number) and number >= 0 for number in table.values()):
        raise ModelError(f"{path}: expected a number for each piece; {ADVICE}")
    return table


def _tokenizer_class(folder: Path, named: object) -> str:
    fast = f"{str(named).removesuffix('Fast')}Fast"  # what AutoTokenizer takes of the two
    if fast not in TOKENIZERS:
        raise ModelError(
            f"{folder}: its tokenizer is of the class {quoted(named)}; those that are opened here are "
            f"{listed(list(TOKENIZERS))}"
        )
    return fast


def _words(folder: Path, tokenizer: str) -> tuple[str, ...]:
    """The files that hold a tokenizer's pieces.

    :raises ModelError: there are none.
    """
    own = TOKENIZERS[tokenizer]
    found = [name for name in (TOKENIZER, *own) if is_file(folder / name)]
    if TOKENIZER not in found and (not own or len(found) < len(own)):
        either = " or ".join(filter(None, (TOKENIZER, " with ".join(own))))
        raise ModelError(f"{folder}: no tokenizer ({either}); save the model's own there too")
    for name in found:
        _check_size(folder / name, _LARGEST_WORDS)
    return tuple(found)


def _encoder_weights(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the files of weights, and of the file that lists them where they are several.

    :raises ModelError: there are none, or one lies elsewhere.
    """
    index: tuple[str, ...] = ()
    if is_file(folder / SAFETENSORS):
        shards = [SAFETENSORS]
    elif is_file(folder / INDEX):
        shards, index = _shards(folder / INDEX), (INDEX,)
    else:
        raise ModelError(
            f"{folder}: no *.safetensors; a pickle (pytorch_model.bin) can run code and is not opened: save "
            f"the model with safe_serialization=True, as {SAFETENSORS}"
        )
    for name in shards:
        if not is_file(folder / name):
            raise ModelError(f"{folder / name}: not there, but {INDEX} names it; {ADVICE}")
        _check_size(folder / name, math.inf)
    return tuple(shards), index


def _shards(path: Path) -> list[str]:
    places = read_settings(path).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else []
    strange = [name for name in names if not (isinstance(name, str) and _SHARD.fullmatch(name))]
    if strange or not names:
        found = quoted(strange[0]) if strange else "none"
        raise ModelError(
            f"{path}: weight_map: expected names of *.safetensors in the same folder, found {found}; {ADVICE}"
        )
    return sorted(set(names))


def _check_size(path: Path, largest: float) -> None:
    """Refuse what is no file of a model: one that is empty (some of those of the system never end), or huge.

    A link may lead anywhere, as those of the hub's own cache do: what it leads to is digested, and opened.
    """
    size = path.stat().st_size
    if not 0 < size <= largest:
        raise ModelError(f"{path}: {size} bytes, expected {'some' if not size else 'fewer'}; {ADVICE}")
