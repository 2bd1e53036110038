"""Download models from the hubs of Hugging Face and flair."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backattn.common.errors import MissingError
from backattn.common.safe_text import error_text


@contextmanager
def download_errors_as_missing(name: str, instead: str) -> Iterator[None]:
    """Turn whatever a hub's client raises into a ``MissingError``.

    :param instead: what a user without a network does.
    :raises MissingError: in place of any exception.
    """
    try:
        yield
    except Exception as error:  # each client has exceptions of its own, and of the network library below
        raise MissingError(
            f"{name}: cannot be fetched from the hub ({error_text(error)}); go online, or {instead}"
        ) from None


def fetch_snapshot(name: str, patterns: Sequence[str], revision: str, *, instead: str) -> Path:
    """Download a model of the Hugging Face hub, or take it from the hub's own cache; return its folder.

    :param patterns: glob patterns of the files that are needed.
    :param revision: commit, tag or branch; empty for the newest.
    :param instead: what a user without a network does.
    :raises MissingError: it cannot be fetched.
    """
    with download_errors_as_missing(name, instead):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))
