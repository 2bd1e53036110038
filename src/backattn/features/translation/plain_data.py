"""Checkpoints are pickles: open those that hold plain data, refuse all others without running them."""

import argparse
import collections
import re
import typing
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import omegaconf
import torch
from omegaconf.base import ContainerMetadata, Metadata

from backattn.errors import ModelError

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


def refuse_code(path: Path) -> None:
    """Read a checkpoint as plain data, whatever the environment says about fairseq's own reading.

    To be called inside ``torch.serialization.safe_globals(PLAIN_CLASSES)``.

    :raises ModelError: it asks for anything but plain data, or it is damaged.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {found[1]}" if found else "its pickle is not plain data"
        raise ModelError(
            f"{path}: refused, {reason}; only fairseq checkpoints of plain data are opened"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError):
        raise ModelError(f"{path}: damaged or no checkpoint; fetch or train it again") from None
