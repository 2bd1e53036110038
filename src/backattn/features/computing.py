"""Open what computes the shards, as the options of ``backattn features`` say."""

from collections.abc import Iterator
from contextlib import contextmanager

from backattn.common.cores import usable_cores
from backattn.common.errors import MissingError, RecipeError
from backattn.features.build import Computing
from backattn.features.engine_options import EngineOptions
from backattn.features.engines.local import LocalEngine


@contextmanager
def open_computing(options: EngineOptions, device: str) -> Iterator[tuple[Computing, str]]:
    """Yield what computes, and the device: ``cpu`` or ``cuda``.

    :param device: as of ``--device``.
    """
    from backattn.common.device import pick_device

    if options.engine == "ray":
        with _ray_computing(options, device) as found:
            yield found
        return
    device = pick_device(device)
    if options.engine == "processes":
        from backattn.features.engines.processes import ProcessesEngine

        gpus = _gpus(device)
        workers = options.workers or gpus
        if not workers:
            raise RecipeError("--engine processes: say how many with --workers; each holds a model in memory")
        threads = options.threads or max(1, usable_cores() // workers)
        yield Computing(ProcessesEngine(workers, threads, gpus), options.share), device
    else:
        yield Computing(LocalEngine(options.threads), options.share), device


@contextmanager
def _ray_computing(options: EngineOptions, device: str) -> Iterator[tuple[Computing, str]]:
    try:
        from backattn.features.engines import ray as engine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MissingError(
            "--engine ray needs the package ray, which is not installed; install backattn[ray], here and on "
            "every node"
        ) from None
    with engine.connected(options.address or engine.OWN):
        gpus = device != "cpu" and engine.has_gpus()
        if device.startswith("cuda") and not gpus:
            raise RecipeError(f"--device {device}: no node of the Ray cluster has a GPU")
        threads = options.threads or 1
        workers = options.workers or engine.count_workers(threads, gpus)
        if not workers:
            raise RecipeError(f"--threads {threads}: the Ray cluster has fewer CPUs")
        device = "cuda" if gpus else "cpu"
        made = engine.RayEngine(workers, threads, device)
        yield Computing(made, device="GPUs of a Ray cluster" if gpus else ""), device


def _gpus(device: str) -> int:
    import torch

    if not device.startswith("cuda"):
        return 0
    return 1 if ":" in device else torch.cuda.device_count()
