"""Tag new text with a finished run, through both stages: text -> tokens -> tags -> columns, JSON or text."""

from backattn.tagging.stream import TextOptions, tag_text
from backattn.tagging.text_tagger import TextTagger

__all__ = ["TextOptions", "TextTagger", "tag_text"]
