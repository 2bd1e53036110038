"""What is asked of a run: everything that decides its numbers, known without torch."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from backattn.common.errors import RecipeError
from backattn.corpus import Corpus
from backattn.recipe import TaggerRecipe, as_json
from backattn.tagger.frozen_features import Inputs, StoredFeatures

# Width of the random vectors when no store says another: flair's default tagger has 2 x 256.
RANDOM_WIDTH = 512
# The paper's names of its rows.
_NAMES = {"fasttext": "fastText", "charlm": "CharLM", "bert": "BERT"}


def make_request(
    corpus: Corpus,
    transfer: StoredFeatures | None,
    embeddings: Mapping[str, StoredFeatures],
    recipe: TaggerRecipe,
    *,
    inputs: Inputs,
    seed: int,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that decides a run's numbers, as JSON: two equal requests are one run.

    :param transfer: the store of T; for ``words`` not used, for ``random`` only its width.
    :param embeddings: the stores of the recipe's frozen features, by name.
    :param identity: what is not otherwise known here (digest of the corpus, ...).
    :raises RecipeError: the recipe asks for more sentences than there are, or for a fusion without a BiLSTM.
    """
    recipe = effective_recipe(inputs, recipe)
    return {
        **identity,
        "inputs": inputs,
        "seed": seed,
        "sentences": sample_size(corpus, recipe),
        "tagger": as_json(recipe),
        "embeddings": {name: embeddings[name].identity for name in recipe.embeddings},
        "transfer": _transfer_name(inputs, transfer),
    }


def effective_recipe(inputs: Inputs, recipe: TaggerRecipe) -> TaggerRecipe:
    """The recipe without the fusion or the embeddings that these inputs never read.

    So those cannot make two runs of one. The rest stays, even where nothing reads it (the words' part, of
    ``transfer``): by it a report finds the base of a row.

    :raises RecipeError: ``transfer`` with another fusion than ``output``.
    """
    if inputs == "words":
        return replace(recipe, fusion="output")
    if inputs == "transfer":
        if recipe.fusion != "output":
            raise RecipeError(
                f"tagger.fusion: {recipe.fusion} for the inputs transfer, where T stands alone before "
                "the CRF; expected output: train them by themselves with --set tagger.fusion=output"
            )
        return replace(recipe, embeddings=())
    return recipe


def sample_size(corpus: Corpus, recipe: TaggerRecipe) -> int:
    """How many training sentences the recipe takes.

    :raises RecipeError: more than there are.
    """
    if recipe.sentences == "all":
        return len(corpus.train)
    if recipe.sentences > len(corpus.train):
        raise RecipeError(
            f"tagger.sentences: {recipe.sentences} asked for, but the training file has {len(corpus.train)}; "
            'expected at most that, or "all"'
        )
    return recipe.sentences


def model_name(inputs: Inputs, recipe: TaggerRecipe) -> str:
    """What the paper's tables call such a model: ``CharLM+BiLSTM+CRF+BAN``.

    A fusion that is not the paper's stands in brackets: ``BiLSTM+CRF+BAN(gate)``.
    """
    if inputs == "transfer":
        return "BAN+CRF"
    base = "+".join([*(_NAMES[name] for name in recipe.embeddings), "BiLSTM", "CRF"])
    if inputs == "words":
        return base
    beside = "BAN" if inputs == "words+transfer" else "random"
    return f"{base}+{beside}" + (f"({recipe.fusion})" if recipe.fusion != "output" else "")


def random_width(transfer: StoredFeatures | None) -> int:
    """Width of the vectors of ``random``: that of the T in whose place they stand."""
    return RANDOM_WIDTH if transfer is None else transfer.width


def _transfer_name(inputs: Inputs, transfer: StoredFeatures | None) -> str | None:
    """What identifies T: the store, or the width of random vectors; None for words."""
    if inputs == "random":
        return f"random-{random_width(transfer)}"
    return None if inputs == "words" or transfer is None else transfer.identity
