"""Which device computes, by its torch name."""

import torch

from backattn.errors import RecipeError


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
