"""Build a transformers model or tokenizer from a folder whose settings and weights this project has checked.

:mod:`~backattn.models.transformers_folder` chooses the files and settings of a folder. The loaders of
transformers get nothing else: settings as a dict, weights as tensors, a tokenizer's files in a folder of
links.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from backattn.common.errors import ModelError, is_environment_error
from backattn.common.interrupts import interrupts_held
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import error_text, listed, quoted
from backattn.models.plain_pickle import load_plain
from backattn.models.transformers_folder import ADVICE, CONFIG

# A model may have this many parameters beyond twice those of its weight files: tied weights, positions, a
# pooler.
_EXTRA_PARAMETERS = 1 << 24


@contextmanager
def loader_errors_as_model_error(folder: Path | str) -> Iterator[None]:
    """Turn errors that a loader of transformers raises into a ``ModelError``; silence its warnings.

    Errors of the machine (no memory, no permission) pass as they are.

    :raises ModelError: in place of what the loader raised.
    """
    # Of what transformers warns about, missing weights are refused below, and unused ones do no harm.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about generation settings, which are not used
            yield
    except ModelError:
        raise
    except BaseException as error:
        if not _is_caused_by_model(error):
            raise
        raise ModelError(f"{folder}: transformers cannot open this model: {error_text(error)}") from None


def _is_caused_by_model(error: BaseException) -> bool:
    """Whether the model is at fault. A panic of the tokenizers library is a BaseException only."""
    if isinstance(error, Exception):
        return not is_environment_error(error)
    return type(error).__name__ == "PanicException"


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Discard what native code writes to stderr: the tokenizers library prints its panics before raising."""
    sys.stderr.flush()
    stderr_copy = os.dup(2)
    try:
        with open(os.devnull, "wb") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(stderr_copy, 2)
        os.close(stderr_copy)


@contextmanager
def restricted_folder(
    folder: Path, files: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> Iterator[Path]:
    """A temporary folder that holds only what a loader of transformers may read.

    :param files: names of the files of ``folder`` that are linked into it unchanged.
    :param settings: name of a settings file -> the checked settings that are written there.
    """
    with TemporaryDirectory(prefix="backattn-") as temporary:
        for name in files:
            Path(temporary, name).symlink_to((folder / name).resolve())
        for name, table in settings.items():
            Path(temporary, name).write_text(json.dumps(table), "utf-8")
        yield Path(temporary)


def read_weights(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Read the weights in safetensors files, or in a pickle that holds only tensors.

    :raises ModelError: they are damaged, or of another format.
    """
    weights: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        with loader_errors_as_model_error(folder):
            weights |= _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return weights


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    # Interrupts are held: torch.asarray, which reads tensors, turns a KeyboardInterrupt into a ValueError.
    with interrupts_held(), open_regular(path), safe_open(path, "pt") as file:
        framework = (file.metadata() or {}).get("format", "pt")
        if framework not in ("pt", "mlx"):  # other frameworks store some weights in another order
            raise ModelError(
                f"{path}: weights for {quoted(framework)}, expected 'pt'; save the model with torch"
            )
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read a pickle of weights.

    :raises ModelError: it holds anything but CPU tensors that each fill their storage.
    """
    weights = load_plain(path)
    if not isinstance(weights, dict) or not all(isinstance(key, str) for key in weights):
        raise ModelError(f"{path}: expected a table of weights by their names; {ADVICE}")
    for key, weight in weights.items():
        usable = isinstance(weight, Tensor) and weight.layout == torch.strided and weight.device.type == "cpu"
        # An expanded tensor of a million elements can be one stored number; a copy takes the whole memory.
        if not usable or weight.nbytes > weight.untyped_storage().nbytes():
            raise ModelError(f"{path}: {quoted(key)} is not a CPU tensor that fills its storage; {ADVICE}")
    return weights


def build_model(
    folder: Path,
    model_class: Any,
    config_class: Any,
    settings: Mapping[str, Any],
    weights: dict[str, Tensor],
    *,
    unused: str | None = None,
    **options: Any,
) -> Any:
    """Build a transformers model and load weights into it.

    :param folder: for messages.
    :param settings: arguments of ``config_class``.
    :param unused: prefix of the weights that may be missing, because their output is not used.
    :param options: of ``from_pretrained``.
    :raises ModelError: the weights do not fit the settings, or some are missing.
    """
    for key, value in settings.items():
        if key.endswith("layers") and value > len(weights):
            raise ModelError(f"{folder / CONFIG}: {key}: {value}, but {len(weights)} weights; {ADVICE}")
    with loader_errors_as_model_error(folder):
        config = config_class(**settings)
        _refuse_oversized(folder, model_class, config, weights)
        # Without a folder's name transformers reads none: no other file, no generation settings, no code.
        model, report = model_class.from_pretrained(
            None, config=config, state_dict=weights, output_loading_info=True, local_files_only=True,
            **options,
        )  # fmt: skip
    # transformers would leave random numbers in missing weights.
    missing = sorted(key for key in report["missing_keys"] if not (unused and key.startswith(unused)))
    if missing:
        raise ModelError(f"{folder}: weights are missing: {listed(missing)}; copy the model again")
    return model


def _refuse_oversized(folder: Path, model_class: Any, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuse settings of a model far larger than its weights, before memory is allocated for it."""
    with ExitStack() as contexts:
        for context in model_class.get_init_context(False, False):
            contexts.enter_context(context)
        contexts.enter_context(torch.device("meta"))
        described = sum(weight.numel() for weight in model_class(config).parameters())
    stored = sum(weight.numel() for weight in weights.values())
    if described > 2 * stored + _EXTRA_PARAMETERS:
        raise ModelError(
            f"{folder / CONFIG}: describes a model of {described} numbers, its weights {stored}; {ADVICE}"
        )
