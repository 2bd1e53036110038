"""The recipe's tables of frozen features of words, and how character language models are made."""

from typing import Literal

from backattn.recipe.constraints import Digest, Natural, Positive, PositiveNumber, Share, Table, one_of
from backattn.recipe.data_files import TextFile


class FastTextRecipe(Table, frozen=True, kw_only=True):
    """fastText vectors of the source words.

    :param vectors: a file in fastText's text format (``.vec``), below ``data/``.
    """

    vectors: str


class CharLmTraining(Table, frozen=True, kw_only=True):
    """How ``backattn charlm train`` makes both directions, with flair's own trainer.

    The corpus' training sentences, without their labels, are part of the text.

    :param files: more text; it is tokenised as the corpus is.
    :param hidden: width of one direction's states.
    :param sequence: characters of one step of backpropagation through time.
    """

    files: tuple[TextFile, ...] = ()
    hidden: Positive = 512
    dropout: Share = 0.1
    sequence: Positive = 100
    batch: Positive = 16
    learning_rate: PositiveNumber = 20.0
    epochs: Positive = 4
    seed: Natural = 1


class CharLmRecipe(Table, frozen=True, kw_only=True):
    """Contextual string embeddings (Akbik et al. 2018): flair's character language models, both directions.

    :param checkpoint: folder with ``forward.safetensors`` and ``backward.safetensors``; empty when ``hub``
        is given.
    :param hub: flair's name of both without their direction (``de`` for ``de-forward``, ``de-backward``).
    :param sha256: digests that the hub's two files must have, forward first; empty for none.
    :param batch_tokens: source tokens of a batch; does not change the numbers.
    """

    checkpoint: str = ""
    hub: str = ""
    sha256: tuple[Digest, ...] = ()
    batch_tokens: Positive = 4000
    training: CharLmTraining | None = None

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")
        if self.sha256 and not self.hub:
            raise ValueError("sha256: pins files of the hub, and here is none; take it away")
        if len(self.sha256) not in (0, 2):
            raise ValueError(
                f"sha256: expected two digests, forward first, or none; found {len(self.sha256)}"
            )


class BertRecipe(Table, frozen=True, kw_only=True):
    """A frozen BERT-like model, through transformers.

    :param checkpoint: folder of a transformers model (safetensors); empty when ``hub`` is given.
    :param hub: its name on the hub (``bert-base-multilingual-cased``).
    :param revision: commit on the hub; empty for the newest, which may change.
    :param layers: the last layer's states, or the mean of the last four layers'.
    :param pieces: a token's vector is that of its first piece, or the mean over its pieces.
    :param window: most pieces that are read at once, special ones ([CLS], [SEP]) included; a longer sentence
        is read in windows that overlap by half. 0 takes what the model can.
    :param batch_tokens: pieces of a batch, padding included; does not change the numbers. The default fits a
        CPU's caches (4000 take half as long again); a GPU takes more.
    """

    checkpoint: str = ""
    hub: str = ""
    revision: str = ""
    layers: Literal["last", "mean-4"] = "mean-4"
    pieces: Literal["first", "mean"] = "first"
    window: Natural = 0
    batch_tokens: Positive = 500

    def __post_init__(self) -> None:
        one_of(self, "checkpoint", "hub")
        if self.revision and not self.hub:
            raise ValueError("revision: a commit of the hub, and here is none; take it away")


EmbeddingName = Literal["fasttext", "charlm", "bert"]


class EmbeddingsRecipe(Table, frozen=True, kw_only=True):
    """Frozen features of the source words, each kind in a store of its own; :attr:`TaggerRecipe.embeddings`
    says which of them the tagger reads."""

    fasttext: FastTextRecipe | None = None
    charlm: CharLmRecipe | None = None
    bert: BertRecipe | None = None
    dtype: Literal["float16", "float32"] = "float16"
