"""Stage two: corpus + store -> run. Never loads an expensive model."""
