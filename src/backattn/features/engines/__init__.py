"""Compute the shards of a store: here, in several processes, or on the nodes of a Ray cluster.

:mod:`~backattn.features.engines.shard` computes one shard, whichever engine asks for it.
:mod:`~backattn.features.engines.local` does so in this process,
:mod:`~backattn.features.engines.processes` in worker processes of this machine, and
:mod:`~backattn.features.engines.ray` in actors of a cluster. All of them end with the same arrays.
"""
