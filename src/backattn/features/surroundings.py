"""With what, where and when a run computes: what its numbers will be asked about later."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from backattn.features.plan import Stage
from backattn.store.layout import Header, Origin

_PACKAGES = (
    "backattn", "torch", "numpy", "h5py", "fairseq-fixed", "flair", "sentencepiece", "transformers",
    "tokenizers",
)  # fmt: skip


def header_of(stage: Stage, device: str) -> Header:
    """What a store that is written now says of itself."""
    return Header(
        kind=stage.kind,
        recipe_id=stage.recipe_id,
        recipe=stage.recipe,
        corpora=stage.corpora,
        models=stage.models,
        versions=package_versions(),
        device=device,
        commit=git_commit(),
    )


def new_origin(header: Header, opened: str) -> Origin:
    """The run that begins now.

    :param opened: how its model's file was opened.
    """
    return Origin(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        device=header.device,
        versions=header.versions,
        commit=header.commit,
        opened=opened,
    )


def package_versions() -> dict[str, str]:
    """Python and the packages that make the numbers, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str:
    """The commit of the current folder, with ``-dirty`` where files differ from it; empty without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
