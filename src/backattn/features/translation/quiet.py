"""Keeps the loggers of the program as they are while a package is imported."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def untouched_logging() -> Iterator[None]:
    """Import inside: a package that configures the root logger (some of fairseq's modules do) has no effect.

    ``logging.basicConfig`` does nothing when the root logger has a handler, so it gets one for a while.
    """
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeHandler(placeholder)
