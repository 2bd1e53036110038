"""Initialise a translator's training with the weights of another translator, its parent.

Both translate into English, so the child need not learn English again: transfer learning for pairs of
languages with little parallel text (Zoph, Yuret, May and Knight 2016, arXiv:1604.02201).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backattn.common.atomic_files import is_file
from backattn.common.digests import file_digest
from backattn.common.errors import MissingError, ModelError, RecipeError
from backattn.common.regular_files import read_regular
from backattn.common.safe_text import quoted
from backattn.models.safe_checkpoint import load_safely
from backattn.models.trained_files import require_as_trained
from backattn.recipe import model_path, trained_by

# Files that are read from a parent's folder: its weights, and the pieces of its embedding rows.
_CHECKPOINT, _DICTIONARY, _DICTIONARIES = "checkpoint.pt", "dict.en.txt", "dict.*.txt"
# Weights with a row for each piece of the dictionary, in fconv and in transformer.
_PIECE_ROWS = re.compile(r".*embed_tokens\.weight|decoder\.(fc3|output_projection)\.\w+")
# The pieces that every dictionary begins with, in this order; fairseq does not write them to the file.
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def parent_digests(parent: str) -> dict[str, str]:
    """As :func:`parent_files`, but with empty digests where the translator is gone."""
    try:
        return parent_files(parent)
    except MissingError:
        return dict.fromkeys((_CHECKPOINT, _DICTIONARY), "")


def parent_files(parent: str) -> dict[str, str]:
    """Digests of the files that a training reads from its parent.

    :param parent: the parent's folder, as the recipe names it.
    :raises MissingError: there is no translator.
    :raises RecipeError: the path is no folder.
    :raises ModelError: the translator has two dictionaries, or a file has changed since its training.
    """
    folder = model_path(parent)
    if is_file(folder):
        raise RecipeError(f"translator.training.parent: {folder} is a file; name the translator's folder")
    for path in (folder / name for name in (_CHECKPOINT, _DICTIONARY)):
        if not is_file(path):
            raise MissingError(
                f"{path}: not there; translator.training.parent names a translator that is trained first: "
                f"`backattn translator train {trained_by(parent)}`"
            )
    digests = {path.name: file_digest(path) for path in sorted(folder.glob(_DICTIONARIES)) if is_file(path)}
    if len(set(digests.values())) > 1:
        raise ModelError(
            f"{folder}: {' and '.join(digests)} differ; the parent of a training has one dictionary for both "
            "languages, as `backattn translator train` makes it"
        )
    digests[_CHECKPOINT] = file_digest(folder / _CHECKPOINT)
    require_as_trained(folder, digests)
    return {_CHECKPOINT: digests[_CHECKPOINT], _DICTIONARY: digests[_DICTIONARY]}


def take_over(model: torch.nn.Module, pieces: Sequence[str], parent: Path) -> int:
    """Copy a parent's weights into a new model, except the rows of pieces that the parent does not have.

    Call it inside ``torch.serialization.safe_globals(PLAIN_CLASSES)``, with which a parent is loaded.

    :param model: the child, of the parent's architecture.
    :param pieces: the child's joint dictionary, in its order.
    :param parent: folder of a translator with a joint dictionary, as ``translator train`` leaves it.
    :returns: how many of the child's pieces the parent has, special ones included.
    :raises ModelError: the parent is damaged, of another architecture, or its weights are not tied where the
        child's are.
    """
    checkpoint = parent / _CHECKPOINT
    weights: Mapping[str, Tensor] = load_safely(checkpoint)["model"]
    if not isinstance(weights, Mapping) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ModelError(f"{checkpoint}: damaged, its model is no table of weights; train it again")
    known = {piece: row for row, piece in enumerate(_pieces(parent / _DICTIONARY))}
    shared = [(row, known[piece]) for row, piece in enumerate(pieces) if piece in known]
    ours, theirs = torch.tensor(shared).unbind(1)
    own: dict[str, Any] = model.state_dict()
    if own.keys() != weights.keys():
        raise _other(checkpoint, sorted(own.keys() ^ weights.keys())[0])
    tied: dict[int, Tensor] = {}  # by storage of the child's tensors: the parent's must be tied alike
    with torch.no_grad():
        for name, tensor in own.items():
            given = weights[name]
            if not torch.equal(tied.setdefault(tensor.data_ptr(), given), given):
                raise _other(checkpoint, name)
            has_piece_rows = _PIECE_ROWS.fullmatch(name) is not None
            expected = (len(known), *tensor.shape[1:]) if has_piece_rows else tuple(tensor.shape)
            if tuple(given.shape) != expected:
                raise _other(checkpoint, name)
            if has_piece_rows:
                tensor[ours] = given[theirs].to(tensor.dtype)
            else:
                tensor.copy_(given)
    return len(shared)


def _pieces(dictionary: Path) -> list[str]:
    try:
        lines = read_regular(dictionary).decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ModelError(f"{dictionary}: damaged, not UTF-8; fetch or train it again") from None
    return [*_SPECIAL, *(line.rsplit(" ", 1)[0] for line in lines if line)]


def _other(checkpoint: Path, name: str) -> ModelError:
    return ModelError(
        f"{checkpoint}: does not fit the translator to be trained, at {quoted(name)}; the parent of a "
        "training has its architecture and one dictionary for both languages"
    )
