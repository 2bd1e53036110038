"""Read and write tensors of a run's folder, as safetensors with a JSON value in the header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from backattn.common.atomic_files import is_file, write_whole
from backattn.common.errors import MissingError, ModelError, is_environment_error
from backattn.common.interrupts import interrupts_held
from backattn.common.json_files import parse
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import named_error_text
from backattn.tagger.run import ADVICE


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write tensors and their JSON metadata into one file, so that one rename publishes both."""
    metadata = None if about is None else {"about": json.dumps(about)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, safetensors.torch.save(plain, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of :func:`write_tensors`: the tensors and the metadata.

    :raises MissingError: there is no such file.
    :raises ModelError: it is damaged.
    """
    if not is_file(path):
        raise MissingError(f"{path}: missing; {ADVICE}")
    try:
        # Ctrl-C is delayed: torch.asarray, which reads tensors, turns a KeyboardInterrupt into a ValueError.
        with interrupts_held(), open_regular(path), safe_open(path, framework="pt") as file:
            about = parse((file.metadata() or {}).get("about", "{}"))
            if not isinstance(about, dict):
                raise ValueError("its description is not a table")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, RuntimeError, OSError) as error:
        if is_environment_error(error):
            raise
        raise ModelError(f"{path}: damaged ({named_error_text(error)}); {ADVICE}") from None
