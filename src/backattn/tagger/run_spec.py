"""The specification of a run: everything that decides its numbers, known without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from msgspec.structs import replace

from backattn.common.errors import RecipeError
from backattn.corpus import Corpus
from backattn.recipe import TaggerRecipe, as_json
from backattn.tagger.frozen_features import Inputs, StoredFeatures
from backattn.tagger.run import TaggerFacts

# Width of the random vectors when there is no store of T: flair's default tagger has 2 x 256.
RANDOM_WIDTH = 512
# The paper's names of the embeddings.
_NAMES = {"fasttext": "fastText", "charlm": "CharLM", "bert": "BERT"}


@dataclass(frozen=True, eq=False)
class RunSpec:
    """Specification of one run. Two runs with equal :attr:`request` are the same run.

    :param recipe: recipe of the tagger; :attr:`tagger` resets the keys that the inputs do not read.
    :param identity: further JSON facts that decide the numbers, from the caller; ``corpus``, the digest of
        the corpus, is required.
    :param transfer: the store of T; not read for ``words``, and only its width for ``random``.
    :param embeddings: stores of frozen features by name; those that the recipe does not name are not read.
    :param groups: named scores, as for :func:`~backattn.corpus.scoring.score`.
    """

    corpus: Corpus
    recipe: TaggerRecipe
    inputs: Inputs
    seed: int
    identity: Mapping[str, Any]
    transfer: StoredFeatures | None = None
    embeddings: Mapping[str, StoredFeatures] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tagger(self) -> TaggerRecipe:
        """The tagger's recipe, see :func:`effective_recipe`."""
        return effective_recipe(self.inputs, self.recipe)

    @cached_property
    def frozen(self) -> dict[str, StoredFeatures]:
        """The stores of frozen features that the run reads, in the order of the recipe."""
        return {name: self.embeddings[name] for name in self.tagger.embeddings}

    @property
    def sentences(self) -> int:
        """Number of training sentences.

        :raises RecipeError: the recipe names more than the corpus has.
        """
        wanted, found = self.tagger.sentences, len(self.corpus.train)
        if wanted == "all":
            return found
        if wanted > found:
            raise RecipeError(
                f"tagger.sentences: {wanted} asked for, but the training file has {found}; "
                'expected at most that, or "all"'
            )
        return wanted

    @property
    def random_width(self) -> int:
        """Width of the vectors of ``random``: that of T, which they replace."""
        return RANDOM_WIDTH if self.transfer is None else self.transfer.width

    @cached_property
    def request(self) -> dict[str, Any]:
        """Everything that decides the numbers, as JSON; kept in ``run.json``, its digest names the folder.

        :raises RecipeError: the recipe names more sentences than there are, or a fusion without a BiLSTM.
        """
        transfer = None if self.inputs == "words" or self.transfer is None else self.transfer.identity
        return {
            **self.identity,
            "inputs": self.inputs,
            "seed": self.seed,
            "sentences": self.sentences,
            "tagger": as_json(self.tagger),
            "embeddings": {name: store.identity for name, store in self.frozen.items()},
            "transfer": f"random-{self.random_width}" if self.inputs == "random" else transfer,
        }


def effective_recipe(inputs: Inputs, recipe: TaggerRecipe) -> TaggerRecipe:
    """Reset keys of a recipe to their defaults where the inputs do not read them: the fusion, the embeddings,
    and the standardisation of what is not there.

    Otherwise two requests that differ only in them would train the same run twice. Keys of the word features
    stay even for ``transfer``, which does not read them: a report finds the base of a row by them.

    :raises RecipeError: ``transfer`` with another fusion than ``output``; ``words`` where there are none.
    """
    if inputs == "words":
        if not (recipe.word_dimensions or recipe.embeddings):
            raise RecipeError(
                "tagger.word_dimensions: 0, and no tagger.embeddings, for the inputs words; expected 1 or "
                "more: T alone as the embedding is --inputs words+transfer, random vectors --inputs random"
            )
        standardise = recipe.standardise if recipe.embeddings else TaggerRecipe().standardise
        return replace(recipe, fusion="output", standardise=standardise)
    if inputs == "transfer":
        if recipe.fusion != "output":
            raise RecipeError(
                f"tagger.fusion: {recipe.fusion} for the inputs transfer, where T stands alone before "
                "the CRF; expected output: train them by themselves with --set tagger.fusion=output"
            )
        # No word features are read, and 0 word dimensions are legal only beside embeddings: take the default.
        dimensions = recipe.word_dimensions or TaggerRecipe().word_dimensions
        return replace(recipe, embeddings=(), word_dimensions=dimensions)
    return recipe


def model_name(inputs: Inputs, recipe: TaggerRecipe | TaggerFacts) -> str:
    """Name of a model in the paper's tables: ``CharLM+BiLSTM+CRF+BAN``.

    A fusion other than the paper's follows in brackets: ``BiLSTM+CRF+BAN(gate)``. Where the BiLSTM reads T,
    or random vectors, and nothing else, that is the embedding, as in Table 5: ``BAN Embedding+BiLSTM+CRF``.
    """
    if inputs == "transfer":
        return "BAN+CRF"
    if inputs != "words" and not (recipe.word_dimensions or recipe.embeddings or recipe.characters != "none"):
        embedding = "BAN" if inputs == "words+transfer" else "Random"
        both = "+BAN" if recipe.fusion == "both" else ""
        return f"{embedding} Embedding+BiLSTM+CRF{both}"
    base = "+".join([*(_NAMES[name] for name in recipe.embeddings), "BiLSTM", "CRF"])
    if inputs == "words":
        return base
    added = "BAN" if inputs == "words+transfer" else "random"
    return f"{base}+{added}" + (f"({recipe.fusion})" if recipe.fusion != "output" else "")
