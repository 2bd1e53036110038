"""Context managers that keep fairseq's and flair's logging out of the program's own."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def keep_root_logging() -> Iterator[None]:
    """Import a package inside without letting it configure the root logger, as some of fairseq's modules do.

    ``logging.basicConfig`` does nothing when the root logger has a handler, so a temporary one is added.
    """
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeHandler(placeholder)


@contextmanager
def log_flair_to_file(log: Path) -> Iterator[None]:
    """Send flair's log to a file and keep its progress bars off the terminal."""
    logger = logging.getLogger("flair")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    log.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(log, encoding="utf-8")
    logger.handlers, logger.propagate = [file], False
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # flair's own use of torch and of its folder
            yield
    finally:
        file.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
