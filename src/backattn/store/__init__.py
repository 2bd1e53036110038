"""The feature cache: ragged arrays in HDF5, addressed by sentence. The only importer of h5py.

:mod:`~backattn.store.layout` says what a store holds, :mod:`~backattn.store.digests` how an array's digest
is taken, :mod:`~backattn.store.seal` binds its bytes, :mod:`~backattn.store.writer` makes one whole or not
at all, :mod:`~backattn.store.reader` refuses everything that is not one,
:mod:`~backattn.store.provenance` says where its numbers come from, and :mod:`~backattn.common.file_lock` lets
one process write at a time.
"""
