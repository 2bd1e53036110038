"""Recipe and stores -> many runs: seeds, grids, projection, alignment scores."""
