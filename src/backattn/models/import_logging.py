"""Context managers that keep fairseq's and flair's logging out of the program's own."""

import logging
import sys
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


class TrainerLog(logging.FileHandler):
    """The log file of a foreign trainer. A write that fails ends the training, as that of any other file.

    ``logging`` itself would print a traceback for each record and go on.

    :raises OSError: at a record, or when it is closed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise the error of the write in the place of printing it."""
        if error := sys.exception():
            raise error


@contextmanager
def log_flair_to_file(log: Path) -> Iterator[None]:
    """Send flair's log to a file and keep its progress bars off the terminal."""
    logger = logging.getLogger("flair")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    log.parent.mkdir(parents=True, exist_ok=True)
    file = TrainerLog(log)
    logger.handlers, logger.propagate = [file], False
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # flair's own use of torch and of its folder
            yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
        file.close()
