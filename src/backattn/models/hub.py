"""Find models of the Hugging Face hub in its local cache, download them, and record where other hubs' are.

What is in the cache is found without the hub's own package: a plan needs neither it nor a network. The commit
of a snapshot is part of the identity of what is computed with it.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backattn.common.atomic_files import is_file, is_own_folder, write_text
from backattn.common.digests import canonical_json
from backattn.common.errors import MissingError, ModelError, is_environment_error
from backattn.common.json_files import read_table
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import error_text, quoted
from backattn.recipe import cache_root

COMMIT = re.compile("[0-9a-f]{40}")
_LONGEST_REF = 100

# Errors of a missing connection in Python, requests, httpx, urllib3 and the hub's client. They are compared
# by name, because none of these packages is imported here.
_UNREACHABLE = {
    "ConnectionError", "ConnectError", "Timeout", "TimeoutException", "MaxRetryError",
    "LocalEntryNotFoundError", "OfflineModeIsEnabled",
}  # fmt: skip
# Hubs that have a cache of their own, whose layout only their package knows.
OtherHub = Literal["fairseq", "flair tagger", "flair language model"]


@dataclass(frozen=True)
class Snapshot:
    """The files of one commit of a model in the hub's local cache.

    :param folder: of the files, most of which are links to the cache's blobs.
    """

    commit: str
    folder: Path


def hub_cache() -> Path:
    """The hub's local cache, as its own package finds it."""
    home = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "huggingface")
    default = os.path.join(_filled(os.environ.get("HF_HOME", home)), "hub")
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", default)
    return Path(_filled(os.environ.get("HF_HUB_CACHE", older)))


def _filled(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def local_snapshot(name: str, revision: str) -> Snapshot | None:
    """Find the snapshot of a model in the local cache; None where none was fetched.

    :param revision: commit, tag or branch; empty for the newest that was fetched.
    :raises ModelError: the cache is damaged, or leads elsewhere.
    """
    repository = hub_cache() / f"models--{name.replace('/', '--')}"
    commit = revision if COMMIT.fullmatch(revision) else _read_ref(repository, revision or "main")
    if not commit:
        return None
    folder = repository / "snapshots" / commit
    if folder.is_symlink():
        raise ModelError(
            f"{folder}: is a link, expected a folder of the hub's cache; delete {repository} to fetch "
            "the model again"
        )
    return Snapshot(commit, folder) if is_own_folder(folder) else None


def _read_ref(repository: Path, revision: str) -> str:
    """The commit that a branch or tag had when it was fetched; empty where it was not.

    :raises ModelError: the file holds something else: as part of a path, it could lead anywhere.
    """
    parts = revision.split("/")
    path = repository.joinpath("refs", *parts)
    if {"", ".", ".."} & set(parts) or not is_file(path):
        return ""
    try:
        with open_regular(path) as file:
            text = file.read(_LONGEST_REF).decode("utf-8", "replace").strip()
    except OSError as error:
        if is_environment_error(error):
            raise
        text = error_text(error)
    if not COMMIT.fullmatch(text):
        raise ModelError(
            f"{path}: expected a commit (40 hexadecimal digits), found {quoted(text)}; delete {repository} "
            "to fetch the model again"
        )
    return text


@contextmanager
def download_errors_as_missing(name: str, instead: str) -> Iterator[None]:
    """Turn whatever a hub's client raises into a ``MissingError``.

    :param instead: what a user without a network does.
    :raises MissingError: in place of any exception.
    """
    log = logging.getLogger("huggingface_hub")  # warns of each attempt with the network library's own text
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:  # each client has exceptions of its own, and of the network library below
        if _unreachable(error):
            reason, advice = "it cannot be reached", "connect to the network and run this again"
        else:
            reason, advice = error_text(error), "check its name and the network"
        raise MissingError(
            f"{name}: cannot be fetched from the hub ({reason}); {advice}, or {instead}"
        ) from None
    finally:
        log.setLevel(level)


def _unreachable(error: BaseException | None) -> bool:
    """Whether an error, or one that it followed from, says that there is no connection to the hub."""
    while error is not None:
        if any(cls.__name__ in _UNREACHABLE for cls in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False


def fetch_snapshot(name: str, patterns: Sequence[str], revision: str, *, instead: str) -> Path:
    """Download a model of the Hugging Face hub, or take it from the hub's own cache; return its folder.

    :param patterns: glob patterns of the files that are needed.
    :param revision: commit, tag or branch; empty for the newest.
    :param instead: what a user without a network does.
    :raises MissingError: it cannot be fetched.
    """
    with download_errors_as_missing(name, instead):
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                name, revision=revision or None, allow_patterns=list(patterns), cache_dir=hub_cache()
            )
        )


def newest_commit(name: str, revision: str) -> str:
    """Ask the Hugging Face hub for the commit that a branch or tag has now.

    :raises MissingError: the hub does not answer, or has no such model.
    """
    with download_errors_as_missing(name, "check without --online"):
        from huggingface_hub import HfApi

        return str(HfApi().model_info(name, revision=revision or None).sha)


def public_commit(name: str) -> str:
    """Ask the Hugging Face hub for the newest commit of a model; empty where it has no such model.

    :raises MissingError: the hub does not answer.
    """
    instead = "leave out --online (a folder that you bring can be named as translator.checkpoint)"
    with download_errors_as_missing(name, instead):
        from huggingface_hub import HfApi

        hub = HfApi()
        return str(hub.model_info(name).sha) if hub.repo_exists(name) else ""


def recorded_place(hub: OtherHub, name: str) -> Path | None:
    """Return where a model of another hub is, as :func:`record_place` recorded it; None without a record, or
    if the model is gone.

    :raises ModelError: the record is damaged.
    """
    record = _record(hub, name)
    if not is_file(record):
        return None
    advice = "delete it, then `backattn features` fetches the model again"
    place = read_table(record, advice).get("place")
    if not isinstance(place, str) or not os.path.isabs(place):
        raise ModelError(
            f"{record}: damaged (place: expected an absolute path, found {quoted(place)}); {advice}"
        )
    path = Path(place)
    # Not Path.is_dir, which raises for a name that is too long.
    return path if is_file(path) or os.path.isdir(path) else None


def record_place(hub: OtherHub, name: str, place: Path) -> None:
    """Record where a fetched model lies: the file, or the folder of an unpacked archive."""
    table = {"hub": hub, "name": name, "place": str(place.absolute())}
    write_text(_record(hub, name), canonical_json(table) + "\n")


def _record(hub: OtherHub, name: str) -> Path:
    # No recipe's folder begins with a dot.
    return cache_root() / ".hub" / f"{hashlib.sha256(f'{hub}/{name}'.encode()).hexdigest()[:16]}.json"
