"""T as embeddings of flair: the numbers of the store, training and saving by flair, hostile models."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

flair = pytest.importorskip("flair")

import torch  # noqa: E402
from flair.data import Corpus, Sentence  # noqa: E402
from flair.embeddings import StackedEmbeddings  # noqa: E402
from flair.embeddings.base import load_embeddings  # noqa: E402
from flair.models import SequenceTagger  # noqa: E402
from flair.trainers import ModelTrainer  # noqa: E402

import backattn  # noqa: E402
from backattn.common.errors import BackattnError, ModelError, RecipeError, StaleError  # noqa: E402
from backattn.english.flair import FlairTagger  # noqa: E402
from backattn.integrations.flair import TransferEmbeddings  # noqa: E402
from spanish_home import WIDTH, make_spanish_home, sentences, transfer_store  # noqa: E402
from tiny_english import Bomb, random_tagger, save_pickle  # noqa: E402


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        yield make_spanish_home(tmp_path_factory.mktemp("home"), patch)


@pytest.fixture
def embeddings(home: Path) -> TransferEmbeddings:
    flair.device = torch.device("cpu")
    return TransferEmbeddings("es")


def vectors(sentence: Sentence) -> np.ndarray:
    return np.stack([token.embedding.numpy() for token in sentence])


def test_they_are_t_of_the_store_and_of_new_text(embeddings: TransferEmbeddings) -> None:
    texts = [*sentences()[:3], ["Hola", "Ana"], *sentences()[:1]]
    found = embeddings.embed([Sentence(tokens) for tokens in texts])
    for sentence, expected in zip(found, backattn.features("es", texts), strict=True):
        np.testing.assert_allclose(vectors(sentence), expected.astype(np.float32), atol=1e-3)
    assert embeddings.embedding_length == WIDTH
    assert embeddings.embed([Sentence([])])  # nothing to embed


def test_a_store_needs_no_model(embeddings: TransferEmbeddings, home: Path) -> None:
    alone = TransferEmbeddings(str(transfer_store()))
    assert (alone.name, alone.embedding_length) == (embeddings.name, WIDTH)
    one, other = Sentence(sentences()[0]), Sentence(sentences()[0])
    alone.embed(one)
    embeddings.embed(other)
    np.testing.assert_array_equal(vectors(one), vectors(other))
    with pytest.raises(StaleError, match=r"has no T of 'Hola' \(1 such sentences\); name the recipe"):
        alone.embed(Sentence(["Hola"]))


def test_without_a_store_the_width_is_that_of_the_model(embeddings: TransferEmbeddings) -> None:
    file = transfer_store()
    away = file.rename(file.with_suffix(".away"))
    level = logging.getLogger("flair").level
    try:
        made = TransferEmbeddings("es")
        assert (made.name, made.embedding_length) == (embeddings.name, WIDTH)
    finally:
        away.rename(file)
    assert logging.getLogger("flair").level == level  # a training's log is seen


def test_a_stack_is_saved_with_their_names(embeddings: TransferEmbeddings) -> None:
    stack = StackedEmbeddings([TransferEmbeddings("es"), embeddings])
    again = load_embeddings(stack.save_embeddings())
    assert again.get_names() == stack.get_names()
    sentence, other = Sentence(sentences()[0]), Sentence(sentences()[0])
    stack.embed(sentence)
    again.embed(other)
    assert vectors(sentence).shape[1] == 2 * WIDTH
    np.testing.assert_array_equal(vectors(sentence), vectors(other))


@pytest.mark.slow
def test_flair_trains_saves_and_loads_a_tagger_on_them(
    embeddings: TransferEmbeddings, tmp_path: Path
) -> None:
    data = [Sentence(tokens) for tokens in sentences()]
    for sentence in data:
        sentence[0:2].add_label("ner", "PER")
        sentence[4:5].add_label("ner", "LOC")
    corpus = Corpus(train=data[:12], dev=data[12:], test=data[12:], sample_missing_splits=False)
    tagger = SequenceTagger(
        hidden_size=16, embeddings=embeddings,
        tag_dictionary=corpus.make_label_dictionary("ner", add_unk=False), tag_type="ner",
    )  # fmt: skip
    result = ModelTrainer(tagger, corpus).train(tmp_path, learning_rate=0.2, mini_batch_size=2, max_epochs=12)
    assert result["test_score"] > 0.5
    tagger.save(tmp_path / "own.pt")
    again = SequenceTagger.load(tmp_path / "own.pt")
    found = [Sentence(tokens) for tokens in [*sentences(), ["Ana", "Paz", "vive", "en", "Jaca"]]]
    other = [Sentence([token.text for token in sentence]) for sentence in found]
    tagger.predict(found)
    again.predict(other)
    assert [[str(span) for span in s.get_spans("ner")] for s in found] == [
        [str(span) for span in s.get_spans("ner")] for s in other
    ]
    assert sum(len(s.get_spans("ner")) for s in found) > 20


def saved(embeddings: TransferEmbeddings, **changes: Any) -> dict[str, Any]:
    """What a saved model holds, with changes."""
    return {**embeddings.save_embeddings(), **changes}


def test_another_english_tagger_is_refused(
    embeddings: TransferEmbeddings, home: Path, tmp_path: Path
) -> None:
    params = saved(embeddings)
    file = home / "cache/english/tagger.safetensors"
    data = file.read_bytes()
    other = random_tagger(tmp_path)
    torch.nn.init.zeros_(other.linear.bias)
    file.write_bytes(FlairTagger(other, name="here", batch_tokens=500, device="cpu").dump())
    try:
        with pytest.raises(StaleError, match=r"has learnt from T of the store 1-[0-9a-f]{12}, es makes 1-"):
            load_embeddings(params)
    finally:
        file.write_bytes(data)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"source": 3}, ModelError, r"found .*'source': 3.*, expected the texts source, name and store"),
        ({"source": ["es"]}, ModelError, "expected the texts"),
        ({"trust": True}, ModelError, "'trust': True"),
        ({"width": True}, ModelError, "'width': True"),
        ({"width": 1 << 40}, StaleError, "es makes 1-"),
        ({"source": "/tmp/foreign.toml"}, RecipeError, r"expected the name of a recipe, which is one of"),
        ({"source": "../pipelines/es"}, RecipeError, r"LANG '\.\./pipelines/es': expected the name of"),
        ({"source": "pipe.h5"}, BackattnError, r"pipe\.h5: .*not a regular file"),
        ({"source": "/dev/zero.h5"}, BackattnError, r"/dev/zero\.h5: no such store"),
        ({"store": "1-" + "0" * 64}, StaleError, "has learnt from T of the store 1-000000000000"),
    ],
)  # fmt: skip
def test_a_saved_model_opens_nothing_else(
    embeddings: TransferEmbeddings, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    if not os.path.exists("pipe.h5"):
        os.mkfifo("pipe.h5")  # whoever opened it would wait for ever
    with pytest.raises(kind, match=message):
        load_embeddings(saved(embeddings, **changes))


def test_a_saved_model_cannot_vouch_for_a_pickle(
    embeddings: TransferEmbeddings, home: Path, tmp_path: Path
) -> None:
    """A recipe of this machine that names one, without a digest."""
    text = (home / "pipelines/es.toml").read_text()
    (home / "pipelines/pickled.toml").write_text(text.replace("tagger.safetensors", "bomb.pt"))
    save_pickle(random_tagger(tmp_path), home / "cache/english/bomb.pt")
    trace = tmp_path / "trace"
    torch.save(Bomb(trace), home / "cache/english/bomb.pt")
    with pytest.raises(ModelError, match="a flair file is a pickle and can run code"):
        load_embeddings(saved(embeddings, source="pickled"))
    assert not trace.exists()
