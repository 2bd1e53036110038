"""Show progress on standard error: a bar on a terminal, lines elsewhere (nohup, CI)."""

import sys
import time

from backattn.common.safe_text import printable


def bar_disabled(progress: bool) -> bool | None:
    """Return the argument ``disable`` of tqdm: with ``progress``, draw a bar on a terminal only."""
    return None if progress else True


def log_line(line: str, progress: bool) -> None:
    """Print a line of progress where no bar is drawn, if ``progress`` is wanted."""
    if progress and not sys.stderr.isatty():
        print(printable(line), file=sys.stderr, flush=True)


def time_left(begin: float, done: float, total: float) -> str:
    """Say how long the rest of the work takes at the pace so far.

    :param begin: when the work began, by ``time.monotonic``.
    :param done, total: amounts of work, in any unit; ``done`` is not 0.
    """
    return f"{_duration((time.monotonic() - begin) * (total - done) / done)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
