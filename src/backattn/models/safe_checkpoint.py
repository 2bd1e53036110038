"""Checkpoints are pickles: open those that hold plain data, refuse all others without running them.

Plain data can still be a program: fairseq hands some of a checkpoint's settings to ``eval``
(``encoder_layers = "[(512, 3)] * 20"``). Such a setting must be a literal.
"""

import argparse
import collections
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import omegaconf
from omegaconf.base import ContainerMetadata, Metadata
from torch.utils._python_dispatch import TorchDispatchMode

from backattn.common.errors import ModelError, is_environment_error
from backattn.common.safe_text import plain, quoted
from backattn.models.hub import load_plain

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
# Of a checkpoint; fairseq has some six hundred, three tables deep.
_MOST_SETTINGS = 100_000
_DEEPEST = 20
# What omegaconf fills in where a setting is asked for. One that stands for another alone is harmless; of
# several in one text forty can make a terabyte.
_FILLED_IN = re.compile(r"\$\{[\w.]*\}")
# What may be made for a model, by what its file holds: tied weights are made twice, those of a half width
# take two bytes; a layer is a dozen tensors, each made and filled.
_NUMBERS_OF_A_BYTE, _TENSORS_OF_ONE = 2, 10
_SMALL_NUMBERS, _SMALL_TENSORS = 1 << 24, 1000


def load_safely(path: Path, *, advice: str = "fetch or train it again") -> Mapping[str, Any]:
    """Read a checkpoint as plain data, whatever the environment says about fairseq's own reading.

    To be called inside ``torch.serialization.safe_globals(PLAIN_CLASSES)``.

    :param advice: what to do about a damaged one.
    :returns: what it holds, its weights not read yet where its format allows.
    :raises ModelError: it asks for anything but plain data, or it is damaged.
    """
    try:
        state = load_plain(path)
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
        if is_environment_error(error):  # or not
            raise
        raise ModelError(f"{path}: damaged or no checkpoint; {advice}") from None
    for name, value in settings:
        if isinstance(value, str) and "${" in value and not _FILLED_IN.fullmatch(value):
            raise ModelError(f"{path}: refused, its setting {plain(name)} is the program {quoted(value)}")
        if name.endswith(_EVALUATED) and not _is_literal(value):
            raise ModelError(
                f"{path}: refused, its setting {plain(name)} is the program {quoted(value)}; expected a "
                "number or a list, as in [(512, 3)] * 20"
            )
    return typing.cast(Mapping[str, Any], state)


def _settings(state: Any) -> Iterator[tuple[str, Any]]:
    """Every name and value, at any depth, of what a checkpoint says about its model."""
    state["model"]  # a KeyError here is no checkpoint
    for part in ("args", "cfg"):
        yield from _leaves(state.get(part))


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Nothing is unfolded further than fairseq's own settings are: lists may share lists, without end.

    :raises ValueError: there are more, or they are nested deeper.
    """
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    seen = 0
    while waiting:
        name, value, depth = waiting.pop()
        while isinstance(value, omegaconf.Node):  # its bare content: nothing of it is looked up or filled in
            value = vars(value).get("_content", vars(value).get("_val"))
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, Mapping):
            below = [(str(key), item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            below = [(name, item, depth + 1) for item in value]
        else:
            yield name, value
            continue
        seen += len(below)
        if seen > _MOST_SETTINGS or depth > _DEEPEST:
            raise ValueError("settings without end")
        waiting += reversed(below)


class BoundedBuilding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, a model that is far larger than its file is refused before it takes memory or time.

    What a checkpoint says of its model (a million layers, a layer a billion wide) costs it nothing.

    :param state: what the checkpoint holds.
    :raises ModelError: inside, at the tensor that is too much.
    """

    def __init__(self, path: Path, state: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path = path
        self._numbers = _SMALL_NUMBERS + _NUMBERS_OF_A_BYTE * path.stat().st_size
        self._tensors = _SMALL_TENSORS + _TENSORS_OF_ONE * len(state["model"])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what is about to be made; whatever is computed of it is not larger than it."""
        size = _size_made(str(func), args)
        if size is not None:
            self._numbers, self._tensors = self._numbers - size, self._tensors - 1
            if min(self._numbers, self._tensors) < 0:
                raise ModelError(
                    f"{self._path}: refused, its settings describe a model that is far larger than the "
                    "weights it holds; fetch or train it again"
                )
        return func(*args, **(kwargs or {}))


def _size_made(operation: str, arguments: Sequence[Any]) -> int | None:
    """How many numbers an operation of torch makes anew; None for all others."""
    if operation.startswith("aten.arange"):
        return int(sum(abs(number) for number in arguments))
    place = 1 if operation.startswith("aten.new_") else 0
    size = arguments[place] if len(arguments) > place else None
    if isinstance(size, list | tuple) and all(isinstance(length, int) for length in size):
        return math.prod(size)
    return None


def _is_literal(value: object) -> bool:
    if not isinstance(value, str):  # bytes can be evaluated too
        return value is None or isinstance(value, int | float)
    return len(value) <= _LONGEST_LITERAL and _LITERAL.fullmatch(value) is not None
