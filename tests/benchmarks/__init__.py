"""Measurements, not tests (``make bench``): each module measures one part against its peers."""
