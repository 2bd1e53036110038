"""What the libraries below torch may keep and use."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backattn.common import device as module
from backattn.common.device import has_bfloat16, takes_bfloat16, threads_of_torch

# In a process for each of the two, forked after the imports.
# Blocks of 3 MB, each with a small one behind it that stays: freed into the heap, they cannot leave it.
# glibc learns from the first ones that such blocks come and go, and takes the next ones from its heap, whose
# size it tells: `arena`, the first number of its mallinfo2.
HEAP = """
import ctypes, os, sys
import numpy as np
from backattn.common.device import return_big_blocks

class Info(ctypes.Structure):
    _fields_ = [(f"field{number}", ctypes.c_size_t) for number in range(10)]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info

def heap():
    return mallinfo().field0

for how in ("keep", "back"):
    if os.fork() == 0:
        before = heap()
        if how == "back":
            return_big_blocks()
        kept = []
        for turn in range(2):
            blocks = []
            for _ in range(40):
                blocks.append(np.ones(3_000_000, np.uint8))
                kept.append(np.ones(100_000, np.uint8))
            del blocks
        print((heap() - before) // 1_000_000, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="speaks of glibc's heap, from 2.33 on"
)
def test_big_blocks_go_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, check=True, text=True)
    kept, back = map(int, done.stdout.split())
    # In MB. 120 are in the blocks of one turn, 8 in what stays.
    assert kept > 100
    assert back < 20


@pytest.mark.parametrize(("count", "inside"), [(None, 2), (1, 1), (3, 3)])
def test_torchs_threads_are_put_back_whatever_happens(count: int | None, inside: int) -> None:
    @threads_of_torch(2)
    def caller() -> int:
        found = []

        @threads_of_torch(count)
        def callee() -> None:
            found.append(torch.get_num_threads())
            raise KeyError

        with pytest.raises(KeyError):
            callee()
        assert torch.get_num_threads() == 2
        return found.pop()

    before = torch.get_num_threads()
    assert caller() == inside
    assert torch.get_num_threads() == before


FLAGS = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not FLAGS.exists(), reason="reads the flags of Linux on x86"
)
def test_a_processor_has_bfloat16_from_avx_512_on() -> None:
    """What torch says, beside what the kernel read off the processor."""
    if "avx_ne_convert" in (flags := FLAGS.read_text().split()) and "avx512bw" not in flags:
        pytest.skip(
            "a processor with the one and without the other, of which versions of torch think otherwise"
        )
    assert has_bfloat16("cpu") == ("avx512bw" in flags)


def test_float32_takes_the_place_of_bfloat16_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module._say_float32.cache_clear()
    monkeypatch.setattr(module, "has_bfloat16", lambda device: device == "cuda")
    assert takes_bfloat16("bfloat16", "cuda")
    assert not takes_bfloat16("float32", "cuda")
    assert not takes_bfloat16("float32", "cpu")
    assert capsys.readouterr().err == ""
    assert not takes_bfloat16("bfloat16", "cpu")
    assert not takes_bfloat16("bfloat16", "cpu")
    assert capsys.readouterr().err == (
        "backattn: computing in float32 instead of bfloat16 (precision): torch has no bfloat16 kernels here\n"
    )
