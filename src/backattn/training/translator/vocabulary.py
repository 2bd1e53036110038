"""Train the joint sentencepiece model of a translator's two languages."""

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from backattn.common.errors import ModelError
from backattn.common.safe_text import error_text

# Share of the text's characters that get a piece of their own; Chinese has many rare ones.
_CHARACTER_COVERAGE = 0.9998
# Bytes of the longest line; sentencepiece silently skips longer ones.
_LONGEST_LINE = 1 << 20


def train_vocabulary(lines: Iterable[str], path: Path, size: int) -> None:
    """Train a joint BPE model on lines of tokens separated by spaces, both languages together.

    Names that both languages spell alike become the same pieces, so the translator learns to copy them.

    :param size: number of pieces; a small text gives fewer.
    :raises ModelError: there is too little text for any model, or too many characters for ``size``.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=_CHARACTER_COVERAGE,
            max_sentence_length=_LONGEST_LINE,
            num_threads=1,  # the merges must not depend on the number of cores
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ModelError(
            f"{path}: no vocabulary of {size} pieces can be made of this text: {error_text(error)}"
        ) from None
    path.write_bytes(model.getvalue())
