"""What the models of transformers have in common: fetched from its hub, opened as data.

No code that comes with a model runs. The only importer of the hub's client.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from backattn.errors import ModelError, of_the_machine
from backattn.features.hub import fetching
from backattn.quoting import listed, shortened

# What transformers warns of is refused here (weights that are missing), or does no harm (weights too many).
logging.getLogger("transformers").setLevel(logging.ERROR)


def fetch(name: str, patterns: Sequence[str], revision: str, *, instead: str) -> Path:
    """The folder of a model of the hub, from the hub's own cache where it is there.

    :param patterns: of the files that are needed.
    :param revision: commit, tag or branch; empty for the newest.
    :param instead: what a user does who cannot go online.
    :raises MissingError: it cannot be fetched.
    """
    with fetching(name, instead):
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Around a loader of transformers: whatever it stumbles over is in the folder.

    :raises ModelError: in place of what it raised.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings for its own search
            yield
    except Exception as error:
        if of_the_machine(error):
            raise
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise ModelError(f"{folder}: transformers cannot open this model: {reason}") from None


def refuse_missing(folder: Path, report: dict[str, Any], *, unused: str | None = None) -> None:
    """Refuse a model without some of its weights, which transformers would fill with random numbers.

    :param report: that transformers gives with a model.
    :param unused: how the names of those begin that nobody needs.
    :raises ModelError: weights are missing.
    """
    missing = sorted(key for key in report["missing_keys"] if not (unused and key.startswith(unused)))
    if missing:
        raise ModelError(f"{folder}: weights are missing: {listed(missing)}; copy the model again")
