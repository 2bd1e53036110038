"""Open files from outside safely: hub downloads, checkpoints, archives, safetensors, dictionaries."""
