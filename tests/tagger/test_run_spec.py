"""Tests of what the inputs of a run make of a recipe's tagger."""

from backattn.recipe import TaggerRecipe
from backattn.tagger.run_spec import effective_recipe


def test_t_alone_reads_no_embeddings_and_no_words() -> None:
    """Frozen embeddings in the place of word vectors, as in the paper, are left out like others."""
    frozen = TaggerRecipe(embeddings=("fasttext",), word_dimensions=0)
    assert effective_recipe("transfer", frozen) == effective_recipe("transfer", TaggerRecipe())
