"""Files from outside, opened as data: hubs, checkpoints, archives, safetensors, dictionaries."""
