"""T of the English tagger's embeddings (``transfer.states = "embeddings"``): A E, at stage two's input."""

from pathlib import Path

import numpy as np
import pytest

flair = pytest.importorskip("flair")

from flair.data import Sentence as FlairSentence  # noqa: E402
from flair.embeddings import StackedEmbeddings  # noqa: E402
from flair.models import SequenceTagger  # noqa: E402

from backattn.corpus import Corpus  # noqa: E402
from backattn.english.flair import FlairTagger  # noqa: E402
from backattn.experiments.trainer import StoredVectors  # noqa: E402
from backattn.features.build import build_transfers, build_translations  # noqa: E402
from backattn.features.plan import make_plan  # noqa: E402
from backattn.recipe import Recipe  # noqa: E402
from backattn.store.reader import StoreReader  # noqa: E402
from backattn.tagger.preparation import FROZEN_DEVIATION, prepare  # noqa: E402
from backattn.tagger.run_spec import RunSpec  # noqa: E402
from fakes import FakeTranslator, make_corpus, make_recipe  # noqa: E402
from tiny_english import make_sentences, other_tagger, random_charlm, random_tagger, random_words  # noqa: E402

# In English, by FakeTranslator: Arlen Eva; nothing; Port.
CORPUS = make_corpus(["nelrA Eva avE Ida", "nothing", "troP"])


@pytest.fixture(scope="module", params=["own", "reprojected", "charlm"])
def tagger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SequenceTagger:
    if request.param == "own":
        return random_tagger(tmp_path_factory.mktemp("flair"))
    if request.param == "reprojected":
        return other_tagger("softmax")
    return other_tagger("bio", StackedEmbeddings([random_words(), random_charlm(), random_charlm(False)]))


def reader(tagger: SequenceTagger, states: str) -> FlairTagger:
    found = FlairTagger(tagger, name="here", batch_tokens=40, device="cpu")
    found.states = states  # type: ignore[assignment]
    return found


def embedded_by_flair(tagger: SequenceTagger, tokens: tuple[str, ...]) -> np.ndarray:
    sentence = FlairSentence(list(tokens))
    tagger.embeddings.embed(sentence)
    return np.array([token.embedding.detach().cpu().numpy() for token in sentence])


def test_the_embeddings_are_flairs_own_and_the_tags_stay(tagger: SequenceTagger) -> None:
    texts = [sentence.tokens for sentence in make_sentences(12, seed=4)]
    found, plain = reader(tagger, "embeddings"), reader(tagger, "lstm").read(texts)
    assert found.width == tagger.embeddings.embedding_length != tagger.linear.in_features
    for tokens, reading, other in zip(texts, found.read(texts), plain, strict=True):
        assert reading.states.shape == (len(tokens), found.width)
        np.testing.assert_allclose(reading.states, embedded_by_flair(tagger, tokens), atol=1e-5)
        assert reading.tags == other.tags


def stored(recipe: Recipe, corpus: Corpus, tagger: SequenceTagger) -> StoreReader:
    plan = make_plan(recipe, corpus)
    build_translations(plan.translation, FakeTranslator, "cpu")
    translations = StoreReader(plan.translation.path)
    build_transfers(plan.transfer, translations, recipe.transfer, lambda: reader(tagger, "embeddings"), "cpu")
    return StoreReader(plan.transfer.path)


def test_the_store_holds_a_e_and_stage_two_reads_it_beside_the_words(
    tagger: SequenceTagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    for name in ("translator/checkpoint.pt", "english/tagger.pt"):
        (tmp_path / "toy" / name).parent.mkdir(parents=True)
        (tmp_path / "toy" / name).write_text(name)
    settings = {"characters": "none", "word_dimensions": 6, "hidden": 5}
    recipe = make_recipe(
        transfer={"states": "embeddings", "dtype": "float32"}, tagger={"fusion": "input", **settings}
    )
    store, width = stored(recipe, CORPUS, tagger), tagger.embeddings.embedding_length
    others = [make_recipe(transfer={"states": kind, "dtype": "float32"}) for kind in ("lstm", "tags")]
    assert store.recipe_id not in [make_plan(other, CORPUS).transfer.recipe_id for other in others]
    assert store.attributes["d"] == width
    for sentence in CORPUS.train:
        (translation,) = FakeTranslator().translate([sentence.tokens])
        found = store[sentence.key]["vectors"]
        expected = np.zeros((len(sentence), width))
        rows = embedded_by_flair(tagger, translation.english) if translation.english else []
        # The stored A has a last row and column for EOS, which the recipe drops, and is float16.
        attention = translation.attention.astype(np.float16).astype(np.float64)
        for i in range(len(sentence)):
            for j, row in enumerate(rows):
                expected[i] += attention[i, j] * row
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert store[CORPUS.train[0].key]["vectors"].any()
    spec = RunSpec(
        CORPUS, recipe.tagger, inputs="words+transfer", seed=1, identity={},
        transfer=StoredVectors.of(store),
    )  # fmt: skip
    network = prepare(spec, device="cpu").network
    assert network.words is not None
    assert network.words.width == 6 + width
    assert network.linear.in_features == 2 * 5  # T is not beside the states
    rows = np.concatenate([store[sentence.key]["vectors"] for sentence in CORPUS.train])
    scale = network.frozen["transfer"].scale
    assert float(scale) * (rows - rows.mean(0)).std() == pytest.approx(FROZEN_DEVIATION, rel=1e-3)
