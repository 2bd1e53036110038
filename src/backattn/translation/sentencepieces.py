"""Split tokens into sentencepieces, and merge sentencepieces into words."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import sentencepiece

from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError, ModelError
from backattn.common.regular_files import read_regular
from backattn.translation.attention_merging import UNKNOWN, MergedWords, words_of_sentencepieces
from backattn.translation.tokenisation import CACHED_TOKENS, LONGEST_CACHED


class SentencePieceModel:
    """A sentencepiece model of one language or several."""

    def __init__(self, model: bytes) -> None:
        self._model = sentencepiece.SentencePieceProcessor()
        self._model.LoadFromSerializedProto(model)
        self._encode = lru_cache(maxsize=CACHED_TOKENS)(self._pieces)

    @classmethod
    def load(
        cls, path: Path, advice: str = "`backattn translator train LANG` makes one"
    ) -> "SentencePieceModel":
        """Read a sentencepiece model.

        :param advice: for the message of a missing file: what to do.
        :raises MissingError: there is no such file.
        :raises ModelError: it is not a sentencepiece model.
        """
        if not is_file(path):
            raise MissingError(f"{path}: no sentencepiece model there; {advice}")
        try:
            return cls(read_regular(path))
        except (RuntimeError, OSError):
            raise ModelError(
                f"{path}: not a sentencepiece model; put the translator's own file there"
            ) from None

    def pieces(self, token: str) -> list[str]:
        """The pieces of one token, at least one; the first begins with ``▁``. Results are cached.

        A token that normalisation deletes (a zero-width space) becomes ``<unk>``.
        """
        return list((self._encode if len(token) <= LONGEST_CACHED else self._pieces)(token))

    def text_pieces(self, text: str) -> list[str]:
        """The pieces of a whole text; as :meth:`pieces`, but not cached, because texts hardly repeat."""
        return list(self._pieces(text))

    def words(self, pieces: Sequence[str]) -> MergedWords:
        """The words that sentencepieces make up."""
        return words_of_sentencepieces(pieces)

    def _pieces(self, token: str) -> tuple[str, ...]:
        return tuple(self._model.encode(token, out_type=str)) or (UNKNOWN,)
