"""Character language models of flair's hub as native files, and flair's embeddings of such a file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

from flair.embeddings import FlairEmbeddings
from flair.embeddings.token import replace_with_language_code
from flair.file_utils import cached_path
from flair.models import LanguageModel

from backattn.common.errors import MissingError, ModelError
from backattn.common.safe_text import error_text
from backattn.models.charlm_file import CHARACTER_MODEL, CharacterModelFile
from backattn.models.flair_serialisation import (
    build_character_embeddings,
    describe_character_model,
    unpickle,
)
from backattn.models.hub import download_errors_as_missing
from backattn.models.vouchers import Vouchers, check_digest

# What stands before a sentence, and behind its line in a training (flair's own).
DELIMITER = "\n"


class _Table(Exception):
    """flair's table of models -> addresses."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses


class _Names(FlairEmbeddings):
    """flair makes its table in a constructor that goes on to unpickle a file: this one gets no further."""

    @property
    def PRETRAINED_MODEL_ARCHIVE_MAP(self) -> NoReturn:
        raise AssertionError

    @PRETRAINED_MODEL_ARCHIVE_MAP.setter
    def PRETRAINED_MODEL_ARCHIVE_MAP(self, addresses: Mapping[str, str]) -> NoReturn:
        raise _Table(addresses)


def addresses() -> Mapping[str, str]:
    """The names of flair's hub and where their files lie."""
    try:
        _Names("")
    except _Table as table:
        return table.addresses
    raise AssertionError("flair makes its table of models elsewhere")


def fetch(name: str, sha256: str, vouchers: Vouchers) -> tuple[bytes, str]:
    """A file of flair's hub as the bytes of the native format, and how it was opened, in words.

    :param name: with its direction (``es-forward``).
    :param sha256: digest that the hub's file must have; empty for none.
    :param vouchers: of the file, which is a pickle.
    :raises MissingError: flair does not know the name, or it cannot be fetched.
    :raises ModelError: the digest differs, nobody vouches for it, or it is no character language model.
    """
    path = _fetch(name)
    data = path.read_bytes()
    where, digest = f"{name} ({path})", hashlib.sha256(data).hexdigest()
    check_digest(where, digest, sha256)
    opened = vouchers.opened(where, digest, sha256)
    try:
        model = _unpickle(data)
        # As FlairEmbeddings would: these models know no capitals.
        return dump_model(model, str(path), is_lower="impresso-hipe" in name.lower()), opened
    except ModelError:
        raise
    except Exception as error:  # an unpickled file may fail in any way
        raise ModelError(
            f"{path}: not a flair LanguageModel ({error_text(error)}); remove it, so that it is fetched again"
        ) from None


def _fetch(name: str) -> Path:
    """Where flair's own cache keeps a file, which is fetched when it is not there."""
    known, own = addresses(), name.lower()
    if own not in known:
        own = replace_with_language_code(name)
    if own not in known:
        raise MissingError(
            f"{name}: flair knows no character language model of that name; name another one as "
            "embeddings.charlm.hub, or a folder as checkpoint (`backattn charlm train` makes one)"
        )
    # All files of this family have one name.
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
    """The native file of a language model; equal models give equal bytes.

    :param name: of the file, for messages.
    :param is_lower: it was trained on lower case.
    :raises ModelError: its weights are not finite, or it has no usable dictionary.
    """
    direction = "forward" if model.is_forward_lm else "backward"
    embeddings = FlairEmbeddings(model, is_lower=is_lower, name=direction)
    try:
        file = CharacterModelFile(model=describe_character_model(embeddings))
    except ValueError as error:
        raise ModelError(f"{name}: a safetensors file cannot hold this model: {error}") from None
    return CHARACTER_MODEL.pack(file, embeddings.state_dict(), name)


def load_model(data: bytes, name: str) -> LanguageModel:
    """The inverse of :func:`dump_model`.

    :raises ModelError: names the file and what is wrong in it.
    """
    model: LanguageModel = open_embeddings(data, name).lm
    return model.eval()


def open_embeddings(data: bytes, name: str) -> FlairEmbeddings:
    """flair's embeddings of the native file's language model, which a tagger's training leaves as it is.

    :raises ModelError: names the file and what is wrong in it.
    """
    file, tensors = CHARACTER_MODEL.unpack(data, name)
    embeddings = build_character_embeddings(file.model)
    embeddings.load_state_dict(tensors)
    return embeddings
