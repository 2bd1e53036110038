"""T as embeddings of flair: ``from backattn.integrations.flair import TransferEmbeddings``.

Import it before a model that was trained with them is loaded, so that flair knows the class by its name.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import flair
import numpy as np
import torch
from flair.data import Sentence
from flair.embeddings import TokenEmbeddings
from flair.embeddings.base import register_embeddings

from backattn.common.errors import ModelError, RecipeError, StaleError
from backattn.common.safe_text import quoted
from backattn.corpus.given import given_tokens
from backattn.features.new_text import TransferVectors

_PARAMETERS = {"source": str, "name": str, "store": str, "width": int}


@register_embeddings
class TransferEmbeddings(TokenEmbeddings):
    """T = A R of each token (eq. 5): from a store where it holds the sentence, computed otherwise.

    A saved model holds the name of the source and the id of the store. Loading it opens the models that a
    recipe of this machine names, and only if they make the same T: a model file can neither name models nor
    vouch for a pickle.

    :param source: LANG, the name of a recipe; or the path of a transfer store (``.h5``), which serves its own
        sentences without any model.
    :raises RecipeError: it is neither. The path of a recipe is refused too: a recipe names models to open,
        and one anywhere could come with the model that names it.

    >>> from flair.data import Sentence
    >>> embeddings = TransferEmbeddings("es")
    >>> [sentence] = embeddings.embed(Sentence(["Ana", "vive", "en", "Lugo"]))
    >>> sentence[0].embedding.shape
    torch.Size([32])
    """

    def __init__(self, source: str) -> None:
        if not isinstance(source, str) or source.endswith(".toml"):
            raise RecipeError(
                f"TransferEmbeddings: found {quoted(source)}, expected the name of a recipe, which is one of "
                "pipelines/ or of the package, or the path of a transfer store (.h5)"
            )
        self.source = source
        with _keep_log_level():
            self._vectors = TransferVectors(source, device=str(flair.device))
            self._width = self._vectors.width
        self.name = f"T-{self._vectors.recipe_id[:14]}"
        self.static_embeddings = True
        super().__init__()
        self.eval()

    @property
    def embedding_length(self) -> int:
        """Width of T."""
        return self._width

    def _add_embeddings_internal(self, sentences: list[Sentence]) -> list[Sentence]:
        full = [sentence for sentence in sentences if len(sentence)]
        tokens = given_tokens([[token.text for token in sentence] for sentence in full])
        with _keep_log_level():
            found = self._vectors.of(tokens)
        for sentence, vectors in zip(full, found, strict=True):
            rows = torch.from_numpy(vectors.astype(np.float32)).to(flair.device)
            for token, row in zip(sentence, rows, strict=True):
                token.set_embedding(self.name, row)
        return sentences

    def to_params(self) -> dict[str, Any]:
        """Return the values that a saved model holds."""
        return {
            "source": self.source, "name": self.name, "store": self._vectors.recipe_id, "width": self._width,
        }  # fmt: skip

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "TransferEmbeddings":
        """Make the embeddings of a saved model.

        :raises ModelError: the values are not those of :meth:`to_params`.
        :raises StaleError: the source makes another T than the model was trained with.
        """
        if {key: type(value) for key, value in params.items()} != _PARAMETERS:
            raise ModelError(
                f"TransferEmbeddings of a saved model: found {quoted(dict(params))}, expected the texts "
                "source, name and store, and the number width; save the model anew"
            )
        made = cls(params["source"])
        if (made._vectors.recipe_id, made._width) != (params["store"], params["width"]):
            raise StaleError(
                f"TransferEmbeddings of a saved model: it has learnt from T of the store "
                f"{params['store'][:14]}, {made.source} makes {made._vectors.recipe_id[:14]} now; put back "
                "the models that it was trained with (below BACKATTN_CACHE), or train again"
            )
        made.name = params["name"]  # flair numbers the names of a stack
        return made

    def __str__(self) -> str:
        return f"TransferEmbeddings({self.source!r})"


@contextmanager
def _keep_log_level() -> Iterator[None]:
    """Restore the level of flair's log: opening an English tagger silences it, and a training needs it."""
    log = logging.getLogger("flair")
    level = log.level
    try:
        yield
    finally:
        log.setLevel(level)
