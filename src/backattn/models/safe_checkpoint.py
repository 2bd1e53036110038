"""Load fairseq checkpoints as plain data; refuse all others without running code of theirs.

A checkpoint is a pickle, which can run code when it is opened. torch's ``weights_only`` alone is not enough:
fairseq's settings need classes beyond tensors, and fairseq passes some of them to ``eval``
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
from backattn.models.plain_pickle import load_plain

# The classes in fairseq's own checkpoints, from 2018 until today. The list is closed.
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
# Suffixes of the names of all settings that fairseq's fconv and transformer evaluate: encoder_layers,
# decoder_layers, decoder_attention, adaptive_softmax_cutoff, *_xformers_att_config.
_EVALUATED = ("layers", "attention", "cutoff", "att_config")
# Lists and tuples of numbers and booleans, repeated and concatenated; no name, no call, no power. Every
# quantifier is possessive, so that matching takes linear time.
_ITEMS = r"(?:\d{1,6}+(?!\d)|True|False|None|[\s,()])*+"
_LIST = rf"\[{_ITEMS}\]\s*+(?:\*\s*+\d{{1,3}}+(?!\d)\s*+)?+"
_LITERAL = re.compile(rf"\s*+(?:{_LIST}(?:\+\s*+{_LIST})*+|{_ITEMS})")
_LONGEST_LITERAL = 1000
# Limits of a checkpoint's settings; fairseq has some six hundred, nested three deep.
_MOST_SETTINGS = 100_000
_DEEPEST = 20
# An interpolation of omegaconf, evaluated when the setting is read. A single reference is harmless; settings
# that concatenate several grow exponentially: forty of them make a terabyte.
_REFERENCE = re.compile(r"\$\{[\w.]*\}")
# Limits of what may be allocated for a model, relative to its file: tied weights are allocated twice, float16
# takes two bytes a number; a layer has a dozen tensors, each allocated and initialised.
_NUMBERS_PER_BYTE, _TENSORS_PER_STORED = 2, 10
_MIN_NUMBERS, _MIN_TENSORS = 1 << 24, 1000


def load_safely(path: Path, *, advice: str = "fetch or train it again") -> Mapping[str, Any]:
    """Load a checkpoint as plain data.

    Must be called inside ``torch.serialization.safe_globals(PLAIN_CLASSES)``.

    :param advice: for the message of a damaged one: what to do.
    :returns: the state dict; its weights are memory-mapped where the format allows.
    :raises ModelError: it contains anything but plain data, or it is damaged.
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
    except Exception as error:  # hostile bytes can raise anything; the file is at fault,
        if is_environment_error(error):  # unless the machine is
            raise
        raise ModelError(f"{path}: damaged or no checkpoint; {advice}") from None
    for name, value in settings:
        if isinstance(value, str) and "${" in value and not _REFERENCE.fullmatch(value):
            raise ModelError(f"{path}: refused, its setting {plain(name)} is the program {quoted(value)}")
        if name.endswith(_EVALUATED) and not _is_literal(value):
            raise ModelError(
                f"{path}: refused, its setting {plain(name)} is the program {quoted(value)}; expected a "
                "number or a list, as in [(512, 3)] * 20"
            )
    return typing.cast(Mapping[str, Any], state)


def _settings(state: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of all settings in a checkpoint, at any depth."""
    state["model"]  # a KeyError here means that it is not a checkpoint
    for part in ("args", "cfg"):
        yield from _leaves(state.get(part))


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Leaves of nested settings, within limits: lists that share lists can unfold without end.

    :raises ValueError: there are too many, or they are nested too deep.
    """
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    seen = 0
    while waiting:
        name, value, depth = waiting.pop()
        while isinstance(value, omegaconf.Node):  # the raw content, without interpolation
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
    """Context in which a model far larger than its checkpoint cannot be built.

    A small checkpoint can describe a huge model (a million layers, a layer a billion wide); allocations are
    counted, and refused before they take memory or time.

    :param state: the loaded checkpoint.
    :raises ModelError: inside, at the tensor that exceeds the limit.
    """

    def __init__(self, path: Path, state: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path = path
        self._numbers = _MIN_NUMBERS + _NUMBERS_PER_BYTE * path.stat().st_size
        self._tensors = _MIN_TENSORS + _TENSORS_PER_STORED * len(state["model"])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operation allocates; results of other operations are not larger than their inputs."""
        size = _allocated_size(str(func), args)
        if size is not None:
            self._numbers, self._tensors = self._numbers - size, self._tensors - 1
            if min(self._numbers, self._tensors) < 0:
                raise ModelError(
                    f"{self._path}: refused, its settings describe a model that is far larger than the "
                    "weights it holds; fetch or train it again"
                )
        return func(*args, **(kwargs or {}))


def _allocated_size(operation: str, arguments: Sequence[Any]) -> int | None:
    """Size of the tensor that a torch operation allocates; None for other operations."""
    if operation.startswith("aten.arange"):
        return int(sum(abs(number) for number in arguments))
    place = 1 if operation.startswith("aten.new_") else 0
    size = arguments[place] if len(arguments) > place else None
    if isinstance(size, list | tuple) and all(isinstance(length, int) for length in size):
        return math.prod(size)
    return None


def _is_literal(value: object) -> bool:
    if not isinstance(value, str):  # eval also takes bytes
        return value is None or isinstance(value, int | float)
    return len(value) <= _LONGEST_LITERAL and _LITERAL.fullmatch(value) is not None
