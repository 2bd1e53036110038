"""Count the processor cores that this process may use: its affinity, and the CPU quota of its control group.

A container with a quota of two cores still sees all cores of its machine, and as many threads or runs would
be stopped for most of each period.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Characters; the files of the kernel that are read here are smaller.
_LONGEST = 1 << 16
_NUMBER = re.compile("[0-9]{1,18}")


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores, at least 1; a part of a core in the quota counts as one more.

    :param root: folder of ``proc`` and ``sys``.
    """
    quota = cpu_quota(root)
    allowed = _allowed_cores()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPU time per time that the control groups allow, in cores; None if there is no limit.

    The smallest limit of the group and of those around it counts. Reads version 2 (``cpu.max``) and version 1
    (``cpu.cfs_quota_us``, ``cpu.cfs_period_us``); a file that is missing or of another form sets no limit.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def limit_openmp_threads(root: Path = Path("/")) -> None:
    """Let torch start one thread for each usable core, where a quota allows fewer than the affinity.

    OpenMP reads the variable when torch is imported: call this before. A value of the user's stays.
    """
    if usable_cores(root) < _allowed_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores(root)))


def _allowed_cores() -> int:
    """Number of cores of the affinity: a batch system may allow only some."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process' group and of those around it.

    In a container, the group's own folder is often the root of what is mounted, and its path is not there.
    """
    mounted = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            places = [mounted, mounted / "unified"]
        elif "cpu" in controllers.split(","):
            places = [mounted / controllers, mounted / "cpu"]
        else:
            continue
        below = PurePosixPath(path.lstrip("/"))
        if ".." not in below.parts:  # a group outside of what this namespace shows
            yield from (place / group for place in places for group in (below, *below.parents))
        else:
            yield from places


def _limit(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
    # "max", or -1 in version 1, is no limit.
    if not (_NUMBER.fullmatch(quota) and _NUMBER.fullmatch(period)):
        return None
    return int(quota) / int(period) if int(quota) and int(period) else None


def _read(path: Path) -> str:
    """Read a file of the kernel: its size is 0, whatever it holds."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST)
    except OSError:
        return ""
