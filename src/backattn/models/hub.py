"""Files of others: fetched from a hub, read as plain data, or unpickled once somebody vouches for them.

flair's own model files are pickles, which can run code when they are opened. Here is the only line of the
library that opens one; :mod:`~backattn.models.vouchers` says who vouches. The pickles of translators are
read by torch's safe reader, which runs nothing.
"""

import io
import json
import logging
import os
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor, _weights_only_unpickler

from backattn.common.errors import MissingError, ModelError, is_environment_error
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import listed, quoted, shortened
from backattn.models.transformers_folder import ADVICE, CONFIG

_ZIP = b"PK\3\4"
# How an archive ends: the record of a large one, what says where that lies, and the record of any.
_END = struct.Struct("<4s 44x Q 4s 4x Q 4x 4s 12x I H")


@contextmanager
def fetching(name: str, instead: str) -> Iterator[None]:
    """Around the call of a hub's client, which raises what it likes.

    :param instead: what a user does who cannot go online.
    :raises MissingError: whatever it raised.
    """
    try:
        yield
    except Exception as error:
        raise MissingError(
            f"{name}: cannot be fetched from the hub ({first_line(error)}); go online, or {instead}"
        ) from None


def load_plain(path: Path) -> Any:
    """What is in a file of torch, as plain data; its weights are not read yet where its format allows.

    Classes beyond torch's own are those of ``torch.serialization.safe_globals``, inside which this is called.

    :raises pickle.UnpicklingError: it asks for anything else.
    :raises Exception: it is damaged, in whatever way; or it holds weights that are none of its bytes.
    """
    with open_regular(path) as file:
        zipped = file.read(len(_ZIP)) == _ZIP  # as torch decides it
        size = file.seek(0, os.SEEK_END)
        if not size:
            raise ValueError("empty")
        if zipped:
            _refuse_bomb(file, size)
    with _nothing_grows():
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    model = state.get("model", state) if isinstance(state, dict) else None
    if isinstance(model, dict) and _bytes_of(model.values()) > size:
        raise ValueError("weights that it does not hold")
    return state


def _refuse_bomb(file: BinaryIO, size: int) -> None:
    """Refuse an archive that is smaller than what it unpacks to; torch never packs.

    Python finds an archive's directory from its end, torch at the place that the end names: an archive could
    have one for each.

    :raises ValueError: it is one, or has two directories.
    """
    file.seek(max(0, size - _END.size))
    end = file.read().rjust(_END.size, b"\0")
    record64, begin64, locator, place64, record, begin, comment = _END.unpack(end)
    if locator == b"PK\6\7":
        begin = begin64 if (record64, place64) == (b"PK\6\6", size - _END.size) else -1
    with zipfile.ZipFile(file) as archive:
        if (record, begin, comment) != (b"PK\5\6", archive.start_dir, 0):
            raise ValueError("an archive that torch has not written")
        if sum(member.file_size for member in archive.infolist()) > size:
            raise ValueError("compressed")


@contextmanager
def _nothing_grows() -> Iterator[None]:
    """Inside, torch's safe reader makes nothing that is larger than what it reads.

    It calls ``bytearray`` and ``codecs.encode`` for every pickle, with any argument: a terabyte of zeros; the
    hexadecimal digits of the digits of the digits.
    """
    allowed = _weights_only_unpickler._get_allowed_globals()
    before = dict(allowed)
    del allowed["builtins.bytearray"]
    allowed["_codecs.encode"] = _latin
    try:
        yield
    finally:
        allowed.clear()
        allowed.update(before)


def _latin(text: str, encoding: str) -> bytes:
    """How pickles of torch write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another form than pickles have")
    return text.encode(encoding)


def _bytes_of(weights: Iterable[Any]) -> int:
    """What tensors take, those that share their numbers once."""
    stores = (weight.untyped_storage() for weight in weights if isinstance(weight, Tensor))
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


def unpickle(data: bytes) -> Any:
    """What is in a pickle that somebody vouches for; it may raise, and do, anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older files name classes that have moved
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def first_line(error: Exception) -> str:
    """What a foreign error says, in short."""
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0])


# Numbers that a model may have beyond twice those of its weights: tied ones, positions, a pooler.
_COMPUTED = 1 << 24


def fetch(name: str, patterns: Sequence[str], revision: str, *, instead: str) -> Path:
    """The folder of a model of the hub, from the hub's own cache where it is there.

    :param patterns: of the files that are needed.
    :param revision: commit, tag or branch; empty for the newest.
    :param instead: what a user does who cannot go online.
    :raises MissingError: it cannot be fetched.
    """
    with fetching(name, instead):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))


@contextmanager
def opening(folder: Path | str) -> Iterator[None]:
    """Around a loader of transformers: whatever it stumbles over is in the folder.

    :raises ModelError: in place of what it raised.
    """
    # What transformers warns of is refused here (weights that are missing), or does no harm (too many).
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings for its own search
            yield
    except ModelError:
        raise
    except BaseException as error:
        if not _is_of_the_model(error):
            raise
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise ModelError(f"{folder}: transformers cannot open this model: {reason}") from None


def _is_of_the_model(error: BaseException) -> bool:
    """A panic of the tokenizers' library is no Exception, so that nobody goes on after it."""
    if isinstance(error, Exception):
        return not is_environment_error(error)
    return type(error).__name__ == "PanicException"


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Around the tokenizers' library, which writes its panics to stderr itself, beside raising them."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def shown(folder: Path, names: Sequence[str], rewritten: Mapping[str, Mapping[str, Any]]) -> Iterator[Path]:
    """A folder for a loader of transformers, with nothing in it but what it may read.

    :param names: of files that are shown as they are.
    :param rewritten: name of a file of settings -> what stands in it.
    """
    with TemporaryDirectory(prefix="backattn-") as clean:
        for name in names:
            Path(clean, name).symlink_to((folder / name).resolve())
        for name, settings in rewritten.items():
            Path(clean, name).write_text(json.dumps(settings), "utf-8")
        yield Path(clean)


def read_weights(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """The weights in files of safetensors, or in a pickle of tensors alone.

    :raises ModelError: they are damaged, or not of the kind.
    """
    found: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        with opening(folder):
            found |= _safetensors(path) if path.suffix == ".safetensors" else _plain_pickle(path)
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    with open_regular(path), safe_open(path, "pt") as file:
        kind = (file.metadata() or {}).get("format", "pt")
        if kind not in ("pt", "mlx"):  # other frameworks lay some weights out in another order
            raise ModelError(f"{path}: weights for {quoted(kind)}, expected 'pt'; save the model with torch")
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)


def _plain_pickle(path: Path) -> dict[str, Tensor]:
    """:raises ModelError: it holds anything but tensors, each with numbers of its own."""
    weights = load_plain(path)
    if not isinstance(weights, dict) or not all(isinstance(key, str) for key in weights):
        raise ModelError(f"{path}: expected a table of weights by their names; {ADVICE}")
    for key, weight in weights.items():
        whole = isinstance(weight, Tensor) and weight.layout == torch.strided and weight.device.type == "cpu"
        # One number may stand for a million of them, which take their place once they are copied.
        if not whole or weight.nbytes > weight.untyped_storage().nbytes():
            raise ModelError(f"{path}: {quoted(key)} is no tensor with numbers of its own; {ADVICE}")
    return weights


def build(
    folder: Path,
    kind: Any,
    configuration: Any,
    settings: Mapping[str, Any],
    weights: dict[str, Tensor],
    *,
    unused: str | None = None,
    **options: Any,
) -> Any:
    """A model of transformers with weights in it.

    :param folder: for messages.
    :param kind, configuration: the model's class, and that of its configuration.
    :param unused: how the names of weights begin that nobody needs.
    :param options: of ``from_pretrained``.
    :raises ModelError: the weights do not fit the settings, or some are missing.
    """
    for key, value in settings.items():
        if key.endswith("layers") and value > len(weights):
            raise ModelError(f"{folder / CONFIG}: {key}: {value}, but {len(weights)} weights; {ADVICE}")
    with opening(folder):
        config = configuration(**settings)
        _refuse_larger(folder, kind, config, weights)
        # Nothing is said of a folder, so none is opened: no other file, no generation settings, no code.
        model, report = kind.from_pretrained(
            None, config=config, state_dict=weights, output_loading_info=True, local_files_only=True,
            **options,
        )  # fmt: skip
    refuse_missing(folder, report, unused=unused)
    return model


def _refuse_larger(folder: Path, kind: Any, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuse a configuration of far more numbers than the weights have, before memory is taken for them."""
    with ExitStack() as contexts:
        for context in kind.get_init_context(False, False):
            contexts.enter_context(context)
        contexts.enter_context(torch.device("meta"))
        wanted = sum(weight.numel() for weight in kind(config).parameters())
    given = sum(weight.numel() for weight in weights.values())
    if wanted > 2 * given + _COMPUTED:
        raise ModelError(f"{folder / CONFIG}: a model of {wanted} numbers, its weights are {given}; {ADVICE}")


def refuse_missing(folder: Path, report: dict[str, Any], *, unused: str | None = None) -> None:
    """Refuse a model without some of its weights, which transformers would fill with random numbers.

    :param report: that transformers gives with a model.
    :param unused: how the names of those begin that nobody needs.
    :raises ModelError: weights are missing.
    """
    missing = sorted(key for key in report["missing_keys"] if not (unused and key.startswith(unused)))
    if missing:
        raise ModelError(f"{folder}: weights are missing: {listed(missing)}; copy the model again")
