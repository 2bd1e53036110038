"""The embedded sample and its run through both stages: ``backattn demo``."""
