"""The files of a finished training, compared with what the training wrote of them. Loads no model."""

from collections.abc import Mapping
from pathlib import Path

from backattn.common.atomic_files import is_file
from backattn.common.errors import ModelError
from backattn.common.safe_text import shortened
from backattn.models.training_manifest import MANIFEST, damage_as_model_error, read_manifest, train_anew

_SHOWN = 24  # characters of a digest: its two ends


def require_as_trained(folder: Path, digests: Mapping[str, str]) -> None:
    """Refuse a model of ours whose files are no longer those that its training left.

    A folder without a ``training.json`` was brought from elsewhere, and nothing is known of its files. This
    shows damage, not forgery: who can write a model can write its digest.

    :param digests: sha256 of the files that are opened, by name.
    :raises ModelError: one differs from ``training.json``, or that is damaged.
    """
    manifest = folder / MANIFEST
    if not is_file(manifest):
        return
    with damage_as_model_error(manifest):
        written = dict(read_manifest(folder).get("files", {}))
    for name, found in digests.items():
        expected = written.get(name, found)
        if expected != found:
            raise ModelError(
                f"{folder / name}: sha256 is {shortened(found, _SHOWN)}, but {MANIFEST} beside it says "
                f"{shortened(str(expected), _SHOWN)}: damaged, or changed since it was trained; put the "
                f"trained file back, or {train_anew(folder)}; if another model is meant to lie there, "
                f"delete its {MANIFEST}"
            )
