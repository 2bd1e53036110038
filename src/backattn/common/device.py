"""Choose the device and its number format, and bound the memory that torch and the C library keep."""

import ctypes
import functools
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from backattn.common.cores import usable_cores
from backattn.common.errors import RecipeError
from backattn.common.safe_text import quoted

# Compiled kernels to keep. Measured on Spanish, growth of peak memory from 400 to 4,000 sentences: stage one
# +47 % with 1,024 of them, +7 % with 16 and smaller batches; stage two +18 % and +9 % (narrow vectors; +15 %
# with d = 512). Translation is as fast with 16, an epoch of training takes 5 % longer.
_KERNELS = 16
# Keys of mallopt in <malloc.h>, and bytes. Measured as above, stage two, three runs: +10 % (8 to 16)
# without, +9 % (8 to 9) with them, in as much processor time; 1 MB costs a quarter more of it and more.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 2_000_000), (-1, 64_000_000)


def pick_device(wanted: str) -> str:
    """Return the torch name of a device: ``auto`` is a GPU if there is one; others are checked.

    :raises RecipeError: torch does not know or does not have that device.
    """
    if not isinstance(wanted, str):  # from Python
        raise RecipeError(f"device: found {quoted(wanted)}, expected cpu, cuda, cuda:N or auto, as text")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(wanted).type not in {"cpu", "cuda"}:
            raise RuntimeError("not a device of this project")
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        meant = "did you mean cuda? " if "gpu" in wanted.lower() else ""
        raise RecipeError(
            f"device {quoted(wanted)}: {meant}expected cpu, cuda, cuda:N or auto ({reason})"
        ) from None
    return wanted


def device_name(device: str) -> str:
    """Return the name of the device for the provenance of an artefact."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def takes_bfloat16(precision: str, device: str) -> bool:
    """Return whether to compute in bfloat16: the recipe wants it, and torch has kernels for it on the device.

    Without such kernels (an x86 processor before AVX-512) a linear layer takes 8 and a convolution 26 times
    as long as in float32, and an LSTM fails. Then float32, which is more exact, is used, and a line says so.
    """
    wanted = precision == "bfloat16"
    taken = wanted and has_bfloat16(device)
    if wanted and not taken:
        _say_float32()
    return taken


def has_bfloat16(device: str) -> bool:
    """Return whether torch has kernels for bfloat16 on a device."""
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch itself calls this before a product, but it is not public: torch's version range is bounded.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return ask is not None and bool(ask())


@functools.cache
def _say_float32() -> None:
    if multiprocessing.parent_process() is None:  # a parent has printed it already
        message = "computing in float32 instead of bfloat16 (precision): torch has no bfloat16 kernels here"
        print(f"backattn: {message}", file=sys.stderr)


@contextmanager
def threads_of_torch(count: int | None) -> Iterator[None]:
    """Set the number of CPU threads of torch, and restore it.

    None keeps torch's own choice, which counts the cores of the machine, or those of a CPU quota if fewer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or min(before, usable_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bound_kernel_caches() -> None:
    """Bound the caches of compiled kernels in torch's CPU library, unless the user has set them.

    By default it keeps 1,024 kernels, one for each shape, and batches hardly share shapes: the memory of a
    run would grow with the corpus. Call this before any computation: the library reads the settings once.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, str(_KERNELS))


def return_big_blocks() -> None:
    """Make the C library return freed blocks above 2 MB to the system at once.

    glibc raises this threshold by itself, up to 32 MB. Smaller blocks stay in its heap, and the heap of a
    training, whose batches hardly ever have equal sizes, grows with their number. Only for stage two: stage
    one, with its larger blocks, would be a quarter slower. Other C libraries are not changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        for setting in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(*setting)
