"""The feature cache: ragged arrays in HDF5, addressed by sentence. The only importer of h5py."""
