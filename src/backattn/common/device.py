"""Which device computes, by its torch name, and how much its libraries may keep."""

import ctypes
import functools
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from backattn.common.errors import RecipeError

# Measured on Spanish, 400 sentences against 4,000, peak memory: stage one +47 % with 1,024 of them, +7 %
# with 16 and smaller batches; stage two +18 % and +9 % (narrow vectors; +15 % with d = 512). Translation
# is as fast with 16, an epoch of training takes 5 % longer.
_KERNELS = 16
# Bytes, and what <malloc.h> calls these settings. Measured as above, stage two, three runs: +10 % (8 to 16)
# without, +9 % (8 to 9) with them, in as much processor time; 1 MB costs a quarter more of it and more.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 2_000_000), (-1, 64_000_000)


def pick_device(wanted: str) -> str:
    """``auto`` is the GPU where there is one; ``cpu`` and ``cuda`` (``cuda:1``) are taken at their word.

    :raises RecipeError: torch does not know or does not have that device.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(wanted).type not in {"cpu", "cuda"}:
            raise RuntimeError("not a device of this project")
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"--device {wanted!r}: expected cpu, cuda or auto ({reason})") from None
    return wanted


def device_name(device: str) -> str:
    """The device in words, for an artefact's provenance."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def takes_bfloat16(precision: str, device: str) -> bool:
    """Whether a recipe's ``precision`` asks for bfloat16 and torch has kernels for it on the device.

    Where it has none (an x86 processor before AVX-512), it multiplies number by number, a linear layer and a
    convolution in 8 and 26 times the time of float32, and an LSTM fails. So float32, which is more exact, is
    taken in its place, and that is said.
    """
    wanted = precision == "bfloat16"
    taken = wanted and has_bfloat16(device)
    if wanted and not taken:
        _say_float32()
    return taken


def has_bfloat16(device: str) -> bool:
    """Whether torch has kernels for bfloat16 on a device."""
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch asks this itself before it multiplies, but does not promise to keep the name.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return ask is not None and bool(ask())


@functools.cache
def _say_float32() -> None:
    if multiprocessing.parent_process() is None:  # which has said it for all
        message = 'float32 is computed where precision = "bfloat16": torch has no kernels for that here'
        print(f"backattn: {message}", file=sys.stderr)


@contextmanager
def threads_of_torch(count: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads, and put its old number back; None leaves its own choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bound_kernel_caches() -> None:
    """Let torch's CPU library remember few compiled kernels, where the user has not said how many.

    It keeps one for every shape that it meets, 1,024 at first, and hardly a batch has the shape of another:
    the memory of a run would grow with the corpus. To be called before anything is computed: the library
    looks once.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, str(_KERNELS))


def return_big_blocks() -> None:
    """Let the C library give blocks above 2 MB back to the system as soon as they are free.

    glibc raises that border by itself, to 32 MB at most. What is below stays in its heap, and the heap of a
    training, where hardly two batches have the same size, goes on growing with their number. For stage
    two: stage one, with its larger blocks, would be a quarter slower. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        for setting in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(*setting)
