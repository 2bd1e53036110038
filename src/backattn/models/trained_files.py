"""Compare the files of a trained model with the digests that its training wrote, without loading a model."""

from collections.abc import Mapping
from pathlib import Path

from backattn.common.atomic_files import is_file
from backattn.common.errors import ModelError
from backattn.common.safe_text import shortened
from backattn.models.training_manifest import MANIFEST, damage_as_model_error, read_manifest, train_anew

_SHOWN = 24  # characters of a digest in messages: its two ends


def require_as_trained(folder: Path, digests: Mapping[str, str]) -> None:
    """Require that a model's files have the digests in the ``training.json`` of its folder.

    A folder without ``training.json`` is accepted: its model comes from elsewhere. This detects damage, not
    forgery, since anyone who can replace a model can replace its digest.

    :param digests: sha256 of the files that are opened, by name.
    :raises ModelError: a digest differs, or ``training.json`` is damaged.
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
