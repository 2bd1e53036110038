"""Store features on disk: ragged arrays in HDF5, addressed by sentence. The only importer of h5py.

:mod:`~backattn.store.layout` defines what a store holds, :mod:`~backattn.store.digests` the digest of an
array, and :mod:`~backattn.store.seal` the first bytes of the file, which protect all others.
:mod:`~backattn.store.writer` writes a store atomically, :mod:`~backattn.store.reader` reads and verifies it,
and :mod:`~backattn.store.provenance` prints where its numbers come from.
:mod:`~backattn.common.file_lock` lets one process write at a time.
"""
