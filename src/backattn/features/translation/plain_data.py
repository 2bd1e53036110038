"""Checkpoints are pickles: open those that hold plain data, refuse all others without running them.

Plain data can still be a program: fairseq hands some of a checkpoint's settings to ``eval``
(``encoder_layers = "[(512, 3)] * 20"``). Such a setting must be a literal.
"""

import argparse
import collections
import re
import typing
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import omegaconf
import torch
from omegaconf.base import ContainerMetadata, Metadata

from backattn.errors import ModelError, of_the_machine
from backattn.quoting import plain, quoted

# What fairseq's own checkpoints hold, of 2018 as of today. The list is closed.
PLAIN_CLASSES: list[Any] = [
    argparse.Namespace,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.AnyNode,
    ContainerMetadata,
    Metadata,
    collections.defaultdict,
    typing.Any,
    dict,
    list,
    int,
]
# Ends of the names of all settings that fairseq's fconv and transformer evaluate: encoder_layers,
# decoder_layers, decoder_attention, adaptive_softmax_cutoff, *_xformers_att_config.
_EVALUATED = ("layers", "attention", "cutoff", "att_config")
# Lists of numbers, truths and tuples of them, repeated and joined; no name, no call, no power. Every
# quantifier is possessive: nothing is tried twice.
_ITEMS = r"(?:\d{1,6}+(?!\d)|True|False|None|[\s,()])*+"
_LIST = rf"\[{_ITEMS}\]\s*+(?:\*\s*+\d{{1,3}}+(?!\d)\s*+)?+"
_LITERAL = re.compile(rf"\s*+(?:{_LIST}(?:\+\s*+{_LIST})*+|{_ITEMS})")
_LONGEST_LITERAL = 1000


def refuse_code(path: Path, *, advice: str = "fetch or train it again") -> Mapping[str, Any]:
    """Read a checkpoint as plain data, whatever the environment says about fairseq's own reading.

    To be called inside ``torch.serialization.safe_globals(PLAIN_CLASSES)``.

    :param advice: what to do about a damaged one.
    :returns: what it holds, its weights not read yet where its format allows.
    :raises ModelError: it asks for anything but plain data, or it is damaged.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _refuse_bomb(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        settings = list(_settings(state))
    except ModelError:
        raise
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {plain(found[1])}" if found else "its pickle is not plain data"
        raise ModelError(
            f"{path}: refused, {reason}; only fairseq checkpoints of plain data are opened"
        ) from None
    except Exception as error:  # a reader of hostile bytes: whatever it stumbles over is in the file
        if of_the_machine(error):  # or not
            raise
        raise ModelError(f"{path}: damaged or no checkpoint; {advice}") from None
    for name, value in settings:
        if name.endswith(_EVALUATED) and not _is_literal(value):
            raise ModelError(
                f"{path}: refused, its setting {plain(name)} is the program {quoted(value)}; expected a "
                "number or a list, as in [(512, 3)] * 20"
            )
    return typing.cast(Mapping[str, Any], state)


def _refuse_bomb(path: Path) -> None:
    """:raises ValueError: the file is smaller than what it unpacks to; torch never packs."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("compressed")


def _settings(state: Any) -> Iterator[tuple[str, Any]]:
    """Every name and value, at any depth, of what a checkpoint says about its model."""
    state["model"]  # a KeyError here is no checkpoint
    for part in ("args", "cfg"):
        yield from _leaves("", state.get(part))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, omegaconf.Container):
        value = omegaconf.OmegaConf.to_container(value, resolve=False)
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(name, item)
    else:
        yield name, value


def _is_literal(value: object) -> bool:
    if not isinstance(value, str):  # bytes can be evaluated too
        return value is None or isinstance(value, int | float)
    return len(value) <= _LONGEST_LITERAL and _LITERAL.fullmatch(value) is not None
