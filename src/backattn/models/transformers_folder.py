"""Choose and check the files and settings of a transformers model's folder, without loading the model.

transformers lets a folder choose the code that opens it: a ``config.json`` can set ``trust_remote_code`` for
a nested model, and some loaders run a Python file beside the weights. So its loaders never get the folder
itself (:mod:`~backattn.models.transformers_loader`). The model types are a closed list here, each with the
settings that it is built from; other settings are ignored, and those that name code or another place are
refused.

Only the files that :func:`marian_files` and :func:`read_encoder` list are opened, and the model's digests are
those of these files.
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
# Files of a Marian model; the second vocabulary is there if the two sides do not share one.
VOCABULARY, TARGET_VOCABULARY = "vocab.json", "target_vocab.json"
SOURCE_PIECES, TARGET_PIECES = "source.spm", "target.spm"
# Files of tokenizers of any class.
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip

ADVICE = "copy the model's folder again"
_LARGEST_SETTINGS = 1 << 24
_LARGEST_VOCABULARY = 1 << 28
_LARGEST_NUMBER = 1 << 31
# Marian computes its positions one by one when it is built, so a billion is refused. opus-mt: 512, 1024.
_MOST_POSITIONS = 1 << 12

# How many times as long a text may become before it is cut into pieces. XLM-RoBERTa: 128 at most.
_MOST_GROWTH = 1 << 14

# Names of settings that refer to code, or to a file or model elsewhere.
_CODE_OR_PATH = re.compile(
    r"auto_map|.*name_or_path|.*backbone.*|trust_remote_code|custom_.*|transformers_weights", re.I
)
# Provenance at the top level of published models' settings, which nothing opens.
_PROVENANCE = ("_name_or_path", "name_or_path")
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True)
class _SettingType:
    """The type of a setting.

    :param expected: its description in messages.
    """

    expected: str
    is_valid: Callable[[Any], bool]


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) < _LARGEST_NUMBER


def _is_piece(value: object) -> bool:
    """Whether a value is a special piece: its text, or a table with the text and how to match it."""
    if not isinstance(value, dict):
        return isinstance(value, str)
    return isinstance(value.get("content"), str) and all(
        isinstance(own, bool) if key in _PIECE_SWITCHES else key in ("content", "__type", "id")
        for key, own in value.items()
    )


_PIECE_SWITCHES = ("lstrip", "rstrip", "single_word", "normalized", "special")
_INTEGER = _SettingType("a whole number", _is_integer)
_COUNT = _SettingType("a whole number above 0", lambda value: _is_integer(value) and value > 0)
_POSITIONS = _SettingType(
    f"a whole number up to {_MOST_POSITIONS}",
    lambda value: _is_integer(value) and 0 < value <= _MOST_POSITIONS,
)
_PIECE_NUMBER = _SettingType("a whole number", lambda value: value is None or _is_integer(value))
_NUMBER = _SettingType(
    "a number", lambda value: type(value) is int or (type(value) is float and math.isfinite(value))
)
_SWITCH = _SettingType("true or false", lambda value: isinstance(value, bool))
_SWITCH_OR_NONE = _SettingType("true, false or null", lambda value: value is None or isinstance(value, bool))
_NAME = _SettingType("a text", lambda value: isinstance(value, str))
_NAME_OR_NONE = _SettingType("a text", lambda value: value is None or isinstance(value, str))
_NAMES = _SettingType(
    "a text, or a list of texts",
    lambda value: value is None or all(isinstance(name, str) for name in value)
    if isinstance(value, str | list | None) else False,
)  # fmt: skip
_PIECE = _SettingType("a piece", lambda value: value is None or _is_piece(value))
_PIECES = _SettingType(
    "a list of pieces",
    lambda value: value is None or (isinstance(value, list) and all(map(_is_piece, value))),
)
_NUMBERED_PIECES = _SettingType(
    "pieces by their numbers",
    lambda value: isinstance(value, dict)
    and all(
        number.isascii() and number.isdigit() and len(number) < 10 and isinstance(piece, dict)
        and _is_piece(piece) for number, piece in value.items()
    ),
)  # fmt: skip

# The settings that a model is built from, by its type: arguments of the configuration class of transformers,
# without those of training (dropout, initialisation), of tasks, and those that name code or places.
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
    "intermediate_size": _COUNT, "hidden_act": _NAME, "type_vocab_size": _INTEGER, "layer_norm_eps": _NUMBER,
    "position_embedding_type": _NAME, "is_decoder": _SWITCH,
}  # fmt: skip
_DISTILBERT = {
    **_SHARED,
    "n_layers": _COUNT, "n_heads": _COUNT, "dim": _COUNT, "hidden_dim": _COUNT, "activation": _NAME,
    "sinusoidal_pos_embds": _SWITCH,
}  # fmt: skip
_DEBERTA = {
    **_BERT,
    "relative_attention": _SWITCH, "max_relative_positions": _INTEGER, "position_biased_input": _SWITCH,
    "pos_att_type": _NAMES, "position_buckets": _INTEGER, "norm_rel_ebd": _NAME_OR_NONE,
    "share_att_key": _SWITCH, "conv_kernel_size": _INTEGER, "conv_groups": _COUNT, "conv_act": _NAME,
    "embedding_size": _COUNT, "attention_head_size": _COUNT,
}  # fmt: skip


@dataclass(frozen=True)
class _EncoderType:
    """A supported encoder type.

    :param fields: its settings and their types.
    :param tokenizer: the default tokenizer class.
    """

    fields: Mapping[str, _SettingType]
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
    """Files and settings of a BERT-like encoder and its tokenizer.

    :param kind: one of :data:`ENCODERS`.
    :param settings: arguments of its configuration class.
    :param tokenizer: one of :data:`TOKENIZERS`.
    :param weights: names of files of safetensors.
    :param vocabulary_files: names of the tokenizer's files that transformers reads unchanged.
    :param tokenizer_settings: name of a tokenizer's settings file -> the checked settings.
    :param files: names of all files, sorted.
    """

    kind: str
    settings: Mapping[str, Any]
    tokenizer: str
    weights: tuple[str, ...]
    vocabulary_files: tuple[str, ...]
    tokenizer_settings: Mapping[str, Mapping[str, Any]]
    files: tuple[str, ...]


def read_encoder(folder: Path) -> EncoderFolder:
    """Check a folder that ``save_pretrained`` of an encoder and of its tokenizer wrote.

    :raises MissingError: it has no configuration.
    :raises ModelError: it is damaged, of an unsupported type, or names code or another place.
    """
    table = read_settings(folder / CONFIG)
    kind = table.get("model_type")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise ModelError(
            f"{folder}: transformers calls its type {quoted(kind)}; those that are opened here are "
            f"{listed(list(ENCODERS))}"
        )
    settings = _checked(folder / CONFIG, table, ENCODERS[kind].fields)
    weights, index = _encoder_weights(folder)
    own, tokenizer_settings = {}, {}
    if is_file(folder / TOKENIZER_CONFIG):
        own = read_settings(folder / TOKENIZER_CONFIG)
        tokenizer_settings[TOKENIZER_CONFIG] = _checked(folder / TOKENIZER_CONFIG, own, _TOKENIZER)
    if is_file(folder / SPECIAL_TOKENS):
        special = read_settings(folder / SPECIAL_TOKENS)
        tokenizer_settings[SPECIAL_TOKENS] = _checked(folder / SPECIAL_TOKENS, special, _SPECIAL)
    if is_file(folder / ADDED_TOKENS):
        tokenizer_settings[ADDED_TOKENS] = _added_tokens(folder / ADDED_TOKENS)
    named = own.get("tokenizer_class") or table.get("tokenizer_class") or ENCODERS[kind].tokenizer
    tokenizer = _tokenizer_class(folder, named)
    vocabulary = _vocabulary_files(folder, tokenizer)
    # Without a class, transformers would look for one in config.json, which it does not get.
    tokenizer_settings[TOKENIZER_CONFIG] = {
        **tokenizer_settings.get(TOKENIZER_CONFIG, {}),
        "tokenizer_class": tokenizer,
    }
    written = (name for name in tokenizer_settings if is_file(folder / name))
    files = (CONFIG, *index, *weights, *vocabulary, *written)
    return EncoderFolder(
        kind, settings, tokenizer, weights, vocabulary, tokenizer_settings, tuple(sorted(files))
    )


def lacks_encoder_parts(folder: Path) -> bool:
    """Whether configuration, weights or tokenizer are missing: a download was stopped, or partial."""
    try:
        held = {path.name for path in folder.iterdir() if is_file(path)}
    except OSError:
        return True
    tokenizers = {TOKENIZER}.union(*TOKENIZERS.values())
    # A pickle is never opened, but it counts as weights: fetching again would bring no others.
    weights = {PICKLE, SAFETENSORS} & held or (INDEX in held and held.issuperset(_shards(folder / INDEX)))
    return not (CONFIG in held and weights and tokenizers & held)


def marian_settings(folder: Path) -> dict[str, Any]:
    """The settings that a Marian model is built from.

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
    return _checked(folder / CONFIG, table, _MARIAN)


def marian_files(folder: Path) -> tuple[str, ...]:
    """Names of all files of a Marian model that are opened, sorted.

    :raises MissingError: one of them is not there.
    :raises ModelError: one of them is empty or too large.
    """
    weights = PICKLE if is_file(folder / PICKLE) and not is_file(folder / SAFETENSORS) else SAFETENSORS
    names = [CONFIG, SOURCE_PIECES, TARGET_PIECES, VOCABULARY, weights]
    for name in names:
        if not is_file(folder / name):
            raise MissingError(f"{folder / name}: not there; copy the Marian model's folder whole")
    names += [TARGET_VOCABULARY] if is_file(folder / TARGET_VOCABULARY) else []
    for name in names:
        _check_size(folder / name, math.inf if name == weights else _LARGEST_VOCABULARY)
    return tuple(sorted(names))


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON object of settings.

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
                # A number names nothing, and false or an empty value means that the setting is unused.
                is_set = inner is True or (isinstance(inner, str | list | dict) and bool(inner))
                is_provenance = value is table and key in _PROVENANCE and isinstance(inner, str)
                if is_set and not is_provenance and _CODE_OR_PATH.fullmatch(key):
                    raise ModelError(
                        f"{path}: {quoted(key)} names code or a model elsewhere, which is never opened; "
                        "use a model that has no such setting"
                    )
            waiting += value.values()
    return table


def refuse_growth(path: Path) -> None:
    """Refuse a ``tokenizer.json`` whose steps make a text far longer: each may double it, or more.

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
            f"{path}: its normalizer and pre_tokenizer may make a text more than {_MOST_GROWTH:,} times as "
            f"long; {ADVICE}"
        )


def _checked(path: Path, table: Mapping[str, Any], fields: Mapping[str, _SettingType]) -> dict[str, Any]:
    """The settings in ``fields``, with their types checked.

    :raises ModelError: one of them has another type.
    """
    found = {key: table[key] for key in fields if key in table}
    for key, value in found.items():
        if not fields[key].is_valid(value):
            raise ModelError(
                f"{path}: {key}: expected {fields[key].expected}, found {quoted(value)}; {ADVICE}"
            )
    return found


def _added_tokens(path: Path) -> dict[str, int]:
    """Read added pieces and their ids. A piece can be equal to a setting's name, so names are not checked."""
    _check_size(path, _LARGEST_VOCABULARY)
    table = read_table(path, ADVICE)
    if not all(_is_integer(number) and number >= 0 for number in table.values()):
        raise ModelError(f"{path}: expected a number for each piece; {ADVICE}")
    return table


def _tokenizer_class(folder: Path, named: object) -> str:
    fast = f"{str(named).removesuffix('Fast')}Fast"  # the one of the two that AutoTokenizer prefers
    if fast not in TOKENIZERS:
        raise ModelError(
            f"{folder}: its tokenizer is of the class {quoted(named)}; those that are opened here are "
            f"{listed(list(TOKENIZERS))}"
        )
    return fast


def _vocabulary_files(folder: Path, tokenizer: str) -> tuple[str, ...]:
    """Names of the files of a tokenizer's vocabulary.

    :raises ModelError: a file is missing.
    """
    own = TOKENIZERS[tokenizer]
    found = [name for name in (TOKENIZER, *own) if is_file(folder / name)]
    if TOKENIZER not in found and (not own or len(found) < len(own)):
        either = " or ".join(filter(None, (TOKENIZER, " with ".join(own))))
        raise ModelError(f"{folder}: no tokenizer ({either}); save the model's own tokenizer there too")
    for name in found:
        _check_size(folder / name, _LARGEST_VOCABULARY)
    return tuple(found)


def _encoder_weights(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the weight files, and of the index file if there are several.

    :raises ModelError: a file is missing, or in another folder.
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
    refused = [name for name in names if not (isinstance(name, str) and _SHARD.fullmatch(name))]
    if refused or not names:
        found = quoted(refused[0]) if refused else "none"
        raise ModelError(
            f"{path}: weight_map: expected names of *.safetensors in the same folder, found {found}; {ADVICE}"
        )
    return sorted(set(names))


def _check_size(path: Path, largest: float) -> None:
    """Refuse an empty or huge file; files of the kernel (``/proc``) have size 0, and some never end.

    Links are followed, because the hub's cache consists of links; the target is digested and opened.
    """
    size = path.stat().st_size
    if not 0 < size <= largest:
        raise ModelError(f"{path}: {size} bytes, expected {'some' if not size else 'fewer'}; {ADVICE}")
