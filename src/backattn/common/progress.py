"""Show progress on standard error: a bar on a terminal, lines elsewhere (nohup, CI)."""

import sys

from backattn.common.safe_text import printable


def bar_disabled(progress: bool) -> bool | None:
    """Return the argument ``disable`` of tqdm: with ``progress``, draw a bar on a terminal only."""
    return None if progress else True


def log_line(line: str, progress: bool) -> None:
    """Print a line of progress where no bar is drawn, if ``progress`` is wanted."""
    if progress and not sys.stderr.isatty():
        print(printable(line), file=sys.stderr, flush=True)
