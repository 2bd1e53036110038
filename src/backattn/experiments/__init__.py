"""Experiments on finished stores: runs over seeds and grids, projection, and alignment scores."""
