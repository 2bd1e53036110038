"""Fetch character language models of flair's hub; convert them to this project's file format and back."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

from flair.embeddings import FlairEmbeddings
from flair.embeddings.token import replace_with_language_code
from flair.file_utils import cached_path
from flair.models import LanguageModel

from backattn.common.errors import MissingError, ModelError
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import error_text
from backattn.models.charlm_file import CHARACTER_MODEL, CharacterModelFile
from backattn.models.flair_serialisation import (
    build_character_embeddings,
    describe_character_model,
    unpickle,
)
from backattn.models.hub import download_errors_as_missing
from backattn.models.vouchers import Vouchers, check_digest

# Precedes a sentence, and follows each line in a training, as in flair.
DELIMITER = "\n"


class _HubAddresses(Exception):
    """Carries flair's table of models and addresses out of its constructor."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses


class _AddressProbe(FlairEmbeddings):
    """Stops flair's constructor where it assigns its table of models, before it unpickles a file."""

    @property
    def PRETRAINED_MODEL_ARCHIVE_MAP(self) -> NoReturn:
        raise AssertionError

    @PRETRAINED_MODEL_ARCHIVE_MAP.setter
    def PRETRAINED_MODEL_ARCHIVE_MAP(self, addresses: Mapping[str, str]) -> NoReturn:
        raise _HubAddresses(addresses)


def addresses() -> Mapping[str, str]:
    """Map the names of the models of flair's hub to the addresses of their files."""
    try:
        _AddressProbe("")
    except _HubAddresses as found:
        return found.addresses
    raise AssertionError("flair no longer assigns its table of models in this constructor")


def convert_file(path: Path, name: str, sha256: str, vouchers: Vouchers) -> tuple[bytes, str]:
    """Convert a model of flair's hub to the bytes of the native format; also say how it was opened.

    :param path: where :func:`fetch_file` has put it.
    :param name: with its direction (``es-forward``).
    :param sha256: digest that the hub's file must have; empty for any.
    :param vouchers: which pickles may be opened.
    :raises ModelError: the digest differs, no one vouches for it, or it is not a character language model.
    """
    data = read_regular(path)
    where, digest = f"{name} ({path})", hashlib.sha256(data).hexdigest()
    check_digest(where, digest, sha256)
    opened = vouchers.opened(where, digest, sha256)
    try:
        model = _unpickle(data)
        # As FlairEmbeddings does: these models have no capitals.
        return dump_model(model, str(path), is_lower="impresso-hipe" in name.lower()), opened
    except ModelError:
        raise
    except Exception as error:  # an unpickled file may fail in any way
        raise ModelError(
            f"{path}: not a flair LanguageModel ({error_text(error)}); remove it, so that it is fetched again"
        ) from None


def fetch_file(name: str) -> Path:
    """Return the path of a model in flair's own cache; download it if it is not there.

    :param name: with its direction (``es-forward``).
    :raises MissingError: flair does not know the name, or it cannot be fetched.
    """
    known, own = addresses(), name.lower()
    if own not in known:
        own = replace_with_language_code(name)
    if own not in known:
        raise MissingError(
            f"{name}: flair knows no character language model of that name; name another one as "
            "embeddings.charlm.hub, or a folder as checkpoint (`backattn charlm train` makes one)"
        )
    # All files of this family have the same name.
    folder = Path("embeddings", own) if "impresso-hipe" in own else Path("embeddings")
    with download_errors_as_missing(
        name, "name a folder as embeddings.charlm.checkpoint (`backattn charlm train` makes one)"
    ):
        return Path(cached_path(known[own], cache_dir=folder))


def _unpickle(data: bytes) -> LanguageModel:
    state = unpickle(data)
    if not isinstance(state, dict):
        raise ValueError(f"a {type(state).__name__}")
    model: Any = LanguageModel.__new__(LanguageModel)
    model.__setstate__({"document_delimiter": DELIMITER, **state})
    return cast(LanguageModel, model)


def dump_model(model: LanguageModel, name: str, *, is_lower: bool = False) -> bytes:
    """Convert a language model to the bytes of a native file; equal models give equal bytes.

    :param name: of the file, for messages.
    :param is_lower: it was trained on lower-cased text.
    :raises ModelError: its weights are not finite, or its dictionary cannot be written.
    """
    direction = "forward" if model.is_forward_lm else "backward"
    embeddings = FlairEmbeddings(model, is_lower=is_lower, name=direction)
    try:
        file = CharacterModelFile(model=describe_character_model(embeddings))
    except ValueError as error:
        raise ModelError(f"{name}: a safetensors file cannot hold this model: {error}") from None
    return CHARACTER_MODEL.pack(file, embeddings.state_dict(), name)


def load_model(data: bytes, name: str) -> LanguageModel:
    """Convert the bytes of a native file to a language model, the inverse of :func:`dump_model`.

    :raises ModelError: names the file and what is wrong in it.
    """
    model: LanguageModel = open_embeddings(data, name).lm
    return model.eval()


def open_embeddings(data: bytes, name: str) -> FlairEmbeddings:
    """Build flair's embeddings from a native file; their weights stay frozen in a training.

    :raises ModelError: names the file and what is wrong in it.
    """
    file, tensors = CHARACTER_MODEL.unpack(data, name)
    embeddings = build_character_embeddings(file.model)
    embeddings.load_state_dict(tensors)
    return embeddings
