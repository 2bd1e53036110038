"""Open the engine that computes the shards, as the options of ``backattn features`` say."""

from collections.abc import Iterator
from contextlib import contextmanager

from backattn.common.cores import usable_cores
from backattn.common.errors import RecipeError
from backattn.common.extras import require_extras
from backattn.features.build import Computing
from backattn.features.engine_options import EngineOptions
from backattn.features.engines.local import LocalEngine


@contextmanager
def open_computing(options: EngineOptions, device: str) -> Iterator[tuple[Computing, str]]:
    """Yield the engine with the share of shards that it computes, and the device: ``cpu`` or ``cuda``.

    :param device: value of ``--device``.
    """
    from backattn.common.device import pick_device

    if options.engine == "ray":
        require_extras("--engine ray", ["ray"])
        from backattn.cluster import open_cluster
        from backattn.features.engines.ray import RayEngine

        with open_cluster(options.address, device, options.workers, options.threads) as cluster:
            named = "GPUs of a Ray cluster" if cluster.device == "cuda" else ""
            yield Computing(RayEngine(cluster), device=named), cluster.device
        return
    device = pick_device(device)
    if options.engine == "processes":
        from backattn.features.engines.processes import ProcessesEngine

        gpus = _gpus(device)
        workers = options.workers or gpus
        if not workers:
            raise RecipeError("--engine processes: say how many with --workers; each holds a model in memory")
        threads = options.threads or max(1, usable_cores() // workers)
        shared = 0 if ":" in device else gpus  # each worker gets one of several GPUs; cuda:1 is one itself
        yield Computing(ProcessesEngine(workers, threads, shared), options.share), device
    else:
        yield Computing(LocalEngine(options.threads), options.share), device


def _gpus(device: str) -> int:
    import torch

    if not device.startswith("cuda"):
        return 0
    return 1 if ":" in device else torch.cuda.device_count()
