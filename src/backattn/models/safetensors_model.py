"""Model files (``tagger.safetensors``): tensors, with the model's configuration as JSON in the metadata.

Needs no flair and no pickle. Such a file cannot hold code: it contains names from a closed list of classes,
numbers and words. Checks come in this order: the header and all offsets (by safetensors itself), the JSON,
the shapes that the JSON implies. Only then is a model built, so its size is bounded by that of the file.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from backattn.common.digests import canonical_json
from backattn.common.errors import ModelError
from backattn.common.json_files import parse
from backattn.common.safe_text import error_text, quoted
from backattn.models.flair_config import FORMAT, Description, Shape

# One key for all JSON: safetensors writes several keys in random order, but equal models must give equal
# bytes.
_KEY = "backattn"
_HEADER_LENGTH = 8  # bytes, little endian: the first ones of a safetensors file


class Described(Protocol):
    """A configuration that implies names and shapes of tensors."""

    @property
    def format(self) -> int:
        """Version of the file's format."""

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of all tensors."""


D = TypeVar("D", bound=Described)


@dataclass(frozen=True)
class FileKind(Generic[D]):
    """One kind of model file.

    :param described: the dataclass of its configuration.
    :param root: name of the configuration in messages.
    :param noun: name of the kind of file in messages.
    :param source: how to make one, in words that follow "make it".
    """

    described: type[D]
    root: str
    noun: str
    source: str

    def pack(self, description: D, tensors: Mapping[str, Tensor], name: str) -> bytes:
        """The bytes of a file; equal models give equal bytes.

        :param name: of the model, for messages.
        :raises ModelError: :meth:`unpack` would refuse them.
        """
        plain = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
        table = dataclasses.asdict(cast(Any, description))
        data = safetensors.torch.save(plain, {_KEY: canonical_json(table)})
        self.unpack(data, name)
        return data

    def unpack(self, data: bytes, name: str) -> tuple[D, dict[str, Tensor]]:
        """The inverse of :meth:`pack`.

        :param name: the file's, for messages.
        :raises ModelError: names the file and what is wrong in it.
        """
        try:
            # Checks that the tensors are inside the file, cover it and do not overlap; copies them.
            tensors = safetensors.torch.load(data)
        # Dtypes and shapes that torch does not have raise other errors than the library's own.
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            reason = error_text(error).removeprefix("Error while deserializing: ")
            raise ModelError(
                f"{name}: damaged or no safetensors file ({reason}); make it {self.source}"
            ) from None
        try:
            description = self._description(data)
            _check_tensors(description, tensors)
        except ValueError as error:
            raise ModelError(
                f"{name}: no {self.noun} of this program: {error}; make it again {self.source}"
            ) from None
        return description, tensors

    def _description(self, data: bytes) -> D:
        length = int.from_bytes(data[:_HEADER_LENGTH], "little")
        header = _json(data[_HEADER_LENGTH : _HEADER_LENGTH + length].decode("utf-8"))
        metadata = header.get("__metadata__")
        text = metadata.get(_KEY) if isinstance(metadata, dict) else None
        if not isinstance(text, str):
            raise ValueError(f"its metadata has no {_KEY!r}")
        value = _json(text)
        found = value.get("format") if isinstance(value, dict) else None
        _require(found == FORMAT, f"format {quoted(found)}, this program reads {FORMAT}")
        return cast(D, _read(self.described, value, self.root))


TAGGER = FileKind(
    Description,
    "tagger",
    "English tagger",
    "with `backattn english train`, or from a flair file with `backattn english convert`",
)


def _json(text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"its metadata is not JSON ({error})") from None


def _check_tensors(description: Described, tensors: Mapping[str, Tensor]) -> None:
    """Require exactly the tensors of the configuration, in float32 and with finite numbers."""
    # Lists at most one more than there are, whatever number of layers the configuration claims.
    expected = dict(islice(description.shapes(), len(tensors) + 1))
    for key, shape in expected.items():
        _require(key in tensors, f"tensor {quoted(key)} is missing")
        found = tuple(tensors[key].shape)
        _require(found == shape, f"tensor {quoted(key)}: expected shape {quoted(shape)}", found)
    for key, tensor in tensors.items():
        _require(key in expected, f"tensor {quoted(key)} is one too many")
        _require(tensor.dtype == torch.float32, f"tensor {quoted(key)}: expected float32")
        # NaN or infinity would make every state NaN, and all cached states useless.
        _require(
            bool(tensor.isfinite().all()),
            f"tensor {quoted(key)} has NaN or infinity, as if its training diverged",
        )


def _read(hint: Any, value: Any, where: str) -> Any:
    """Convert a JSON value to a type; a ValueError names the place of what does not fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # embeddings, distinguished by their kind
        return _read_kind(arguments, value, where)
    if origin is Literal:
        choices = ", ".join(arguments)
        _require(isinstance(value, str) and value in arguments, f"{where}: expected one of {choices}", value)
        return value
    if hint == tuple[str, ...]:  # long: checked in one go
        _require(
            isinstance(value, list) and set(map(type, value)) <= {str}, f"{where}: expected texts", value
        )
        _require_text("".join(value), where)
        return tuple(value)
    if origin is tuple:
        _require(isinstance(value, list), f"{where}: expected a list", value)
        return tuple(_read(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if origin is Mapping:
        _require(isinstance(value, dict), f"{where}: expected a table", value)
        return {key: _read(arguments[1], item, f"{where}[{quoted(key)}]") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return _read_table(cast(type[Any], hint), value, where)
    _require(type(value) is hint, f"{where}: expected {hint.__name__}", value)
    if hint is str:
        _require_text(value, where)
    return value


def _read_kind(classes: tuple[Any, ...], value: Any, where: str) -> Any:
    kinds = {cls.kind: cls for cls in classes}
    kind = value.get("kind") if isinstance(value, dict) else None
    known = isinstance(kind, str) and kind in kinds
    _require(known, f"{where}.kind: expected one of {', '.join(kinds)}", kind)
    return _read_table(kinds[kind], value, where)


def _read_table(cls: type[Any], value: Any, where: str) -> Any:
    _require(isinstance(value, dict), f"{where}: expected a table", value)
    hints = typing.get_type_hints(cls)
    fields = [field.name for field in dataclasses.fields(cls)]
    for key in value:
        _require(key in fields, f"{where}: unknown key {quoted(key)}")
    for key in fields:
        _require(key in value, f"{where}.{key}: missing")
    values = {key: _read(hints[key], value[key], f"{where}.{key}") for key in fields}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None


def _require_text(value: str, where: str) -> None:
    """Refuse lone surrogates, which JSON admits but UTF-8, flair's encoding of words, does not."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{where}: has half a surrogate pair, expected text") from None


def _require(holds: bool, message: str, *found: object) -> None:
    if not holds:
        raise ValueError(message + "".join(f", found {quoted(value)}" for value in found))
