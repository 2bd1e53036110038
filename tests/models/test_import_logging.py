"""Logs of foreign trainers."""

import errno
import logging
from pathlib import Path

import pytest

from backattn.models.import_logging import log_flair_to_file


def test_a_log_that_cannot_be_written_ends_the_training(capfd: pytest.CaptureFixture[str]) -> None:
    """One error, as of any other file, instead of a traceback of `logging` for each record."""
    logger = logging.getLogger("flair")
    before = (logger.handlers[:], logger.propagate, logger.level)
    with pytest.raises(OSError, match="No space left") as raised, log_flair_to_file(Path("/dev/full")):
        logger.info("epoch 1")
    assert raised.value.errno == errno.ENOSPC
    assert (logger.handlers, logger.propagate, logger.level) == before
    assert capfd.readouterr() == ("", "")
