"""Record the environment of a run: package versions, device, start time, commit."""

from datetime import UTC, datetime

from backattn.common.commit import package_commit
from backattn.common.version import package_versions
from backattn.features.plan import Stage
from backattn.store.layout import Header, Origin

# The packages that the numbers of a store depend on.
_PACKAGES = (
    "python", "backattn", "torch", "numpy", "h5py", "fairseq-fixed", "flair", "sentencepiece", "transformers",
    "tokenizers",
)  # fmt: skip


def header_of(stage: Stage, device: str) -> Header:
    """Build the header of a store that is written now."""
    return Header(
        kind=stage.kind,
        recipe_id=stage.recipe_id,
        recipe=stage.recipe,
        corpora=stage.corpora,
        models=stage.models,
        versions=package_versions(_PACKAGES),
        device=device,
        commit=package_commit(),
    )


def now() -> str:
    """The time in UTC, as the start of a run is recorded."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_origin(started: str, device: str, opened: str) -> Origin:
    """Record a run of this process' packages.

    :param started: its start, of :func:`now`.
    :param device: name of the device that computes.
    :param opened: how the file of its model was opened.
    """
    return Origin(
        started=started,
        device=device,
        versions=package_versions(_PACKAGES),
        commit=package_commit(),
        opened=opened,
    )
