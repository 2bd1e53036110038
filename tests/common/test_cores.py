"""The cores that a process may use, from fixture folders of the kernel's files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backattn.common.cores import cpu_quota, limit_openmp_threads, usable_cores

V2 = "0::/user.slice/job\n"
V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n1:cpuset:/other\n0::/\n"


def kernel(folder: Path, groups: str, files: dict[str, str]) -> Path:
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),  # a container of its own namespace
        (V2, {"user.slice/job/cpu.max": "max 100000\n"}, None),
        (V2, {"user.slice/job/cpu.max": "max 100000\n", "user.slice/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"user.slice/job/cpu.max": "50000 100000\n", "user.slice/cpu.max": "300000 100000\n"}, 0.5),
        (V2, {"unified/user.slice/job/cpu.max": "700000 100000\n"}, 7.0),  # both versions mounted
        (V2, {"elsewhere/cpu.max": "100000 100000\n"}, None),
        ("0::/../../b\n", {"cpu.max": "400000 100000\n", "../../b/cpu.max": "1 1\n"}, 4.0),
        (V1, {"cpu,cpuacct/docker/a/cpu.cfs_quota_us": "250000\n",
              "cpu,cpuacct/docker/a/cpu.cfs_period_us": "50000\n"}, 5.0),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"memory/cpu.cfs_quota_us": "100000\n", "memory/cpu.cfs_period_us": "100000\n"}, None),
        ("", {"cpu.max": "200000 100000\n"}, None),
        ("0::/\n", {"cpu.max": "200000 0\n"}, None),
        ("0::/\n", {"cpu.max": "0 100000\n"}, None),
        ("0::/\n", {"cpu.max": "²000 100000\n"}, None),
        ("0::/\n", {"cpu.max": "many\n"}, None),
        ("0::/\n", {"cpu.max": f"{'9' * 5000} 100000\n"}, None),
        ("\0:\n::\n:::\n0::/\n", {"cpu.max": "300000 100000 and more\n"}, None),
    ],
)  # fmt: skip
def test_the_quota(tmp_path: Path, groups: str, files: dict[str, str], expected: float | None) -> None:
    assert cpu_quota(kernel(tmp_path, groups, files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(5_000, 1), (100_000, 1), (150_000, 2), (900_000, 4)])
def test_cores_are_those_of_the_affinity_and_of_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    root = kernel(tmp_path, "0::/\n", {"cpu.max": f"{quota} 100000\n"})
    assert usable_cores(root) == expected
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    limit_openmp_threads(root)
    # Without a limit, the variable is left to the user and to OpenMP.
    assert os.environ.get("OMP_NUM_THREADS") == (str(expected) if expected < 4 else None)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    limit_openmp_threads(root)
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_without_files_of_the_kernel(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_a_system_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores(tmp_path) == 64


def test_a_smaller_affinity_is_seen_by_a_real_process() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);" + (
        "from backattn.common.cores import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_torch_takes_no_more_threads_than_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from backattn.common import device

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        monkeypatch.setattr(device, "usable_cores", lambda: 2)
        with device.threads_of_torch(None):
            assert torch.get_num_threads() == 2
        with device.threads_of_torch(5):  # what the user says stays
            assert torch.get_num_threads() == 5
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
