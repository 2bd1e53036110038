"""Back Attention (BAN): named entity recognition with what an English tagger knows."""

from backattn.common.version import __version__

__all__ = ["__version__"]
