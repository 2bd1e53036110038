"""Which device computes, by its torch name."""

import torch


def pick_device(wanted: str) -> str:
    """``auto`` is the GPU where there is one; anything else is taken as it is."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def device_name(device: str) -> str:
    """The device in words, for an artefact's provenance."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
