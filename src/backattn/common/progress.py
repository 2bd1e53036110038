"""How far a long work is, on standard error: a bar on a terminal, elsewhere (nohup, CI) lines."""

import sys

from backattn.common.safe_text import printable


def bar_disabled(progress: bool) -> bool | None:
    """What tqdm is to be given as ``disable``: a bar that is wanted is drawn on a terminal alone."""
    return None if progress else True


def log_line(line: str, progress: bool) -> None:
    """Say what is done where no bar shows it, if it is wanted."""
    if progress and not sys.stderr.isatty():
        print(printable(line), file=sys.stderr, flush=True)
