"""The component of spaCy's pipelines: the entities of the run on spaCy's tokens, saved and read back."""

import json
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("flair")
spacy = pytest.importorskip("spacy")

from spacy.tokens import Doc, Span  # noqa: E402

import backattn  # noqa: E402
from backattn.common.errors import MissingError, ModelError, StaleError  # noqa: E402
from backattn.integrations.spacy import SCORE, make_component  # noqa: E402
from spanish_home import make_spanish_home, sentences  # noqa: E402
from users_folder import make_home, run  # noqa: E402

TEXT = "Ana Ruiz vive en Lugo.  Beto Sanz vive  en Vigo.\nDora Gil vive en Soria. "
TABLES = "\n[tagger]\nhidden = 8\nword_dimensions = 8\nepochs = 30\nlearning_rate = 0.5\n"
CONFIG = {"run": "es", "best": True, "device": "cpu"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        yield make_spanish_home(tmp_path_factory.mktemp("home"), patch)


@pytest.fixture(scope="module")
def nlp(home: Path) -> spacy.Language:
    made = spacy.blank("es")
    made.add_pipe("backattn", config=CONFIG)
    return made


def found(doc: Doc) -> list[tuple[str, str]]:
    return [(span.text, span.label_) for span in doc.ents]


def test_its_entry_point_is_the_factory() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["entry-points"]["spacy_factories"]["backattn"].partition(":")
    assert getattr(import_module(module), name) is make_component


def test_it_finds_what_the_run_finds(nlp: spacy.Language) -> None:
    doc = nlp(TEXT)
    assert found(doc) == [
        ("Ana Ruiz", "PER"), ("Lugo", "LOC"), ("Beto Sanz", "PER"), ("Vigo", "LOC"), ("Dora Gil", "PER"),
        ("Soria", "LOC"),
    ]  # fmt: skip
    tagger = backattn.load("es", best=True)
    parts = ["Ana Ruiz vive en Lugo .", "Beto Sanz vive en Vigo .", "Dora Gil vive en Soria ."]
    expected = [entity for entities in tagger.tag([part.split() for part in parts]) for entity in entities]
    assert [getattr(span._, SCORE) for span in doc.ents] == pytest.approx([e.score for e in expected])
    assert doc[0].ent_iob_ == "B"
    assert doc[2].ent_iob_ == "O"
    assert getattr(doc[0:1]._, SCORE) is None


def test_sentences_of_an_earlier_component_are_used(nlp: spacy.Language) -> None:
    """They decide what the run reads together, and so its scores."""
    words = ["Ana", "Ruiz", "vive", "en", "Lugo", ".", "Beto", "Sanz", "vive", "en", "Vigo", "."]
    starts = [place in (0, 6) for place in range(len(words))]
    tagger = nlp.get_pipe("backattn").tagger
    both = [e for entities in tagger.tag([words[:6], words[6:]]) for e in entities]
    marked = nlp.get_pipe("backattn")(Doc(nlp.vocab, words, sent_starts=starts))
    assert [getattr(s._, SCORE) for s in marked.ents] == pytest.approx([e.score for e in both])
    one = nlp.get_pipe("backattn")(Doc(nlp.vocab, words, sent_starts=[True] + [False] * 11))
    whole = tagger.tag([words])[0]
    assert [getattr(s._, SCORE) for s in one.ents] == pytest.approx([e.score for e in whole])
    assert [e.score for e in whole] != pytest.approx([e.score for e in both], abs=1e-9)


def test_many_documents_keep_their_order(nlp: spacy.Language) -> None:
    texts = [" ".join(tokens) for tokens in sentences()[:5]] + ["", "  \n"]
    for batch_size in (2, 100):
        docs = list(nlp.pipe(texts, batch_size=batch_size))
        assert [doc.text for doc in docs] == texts
        assert [found(doc) for doc in docs] == [found(nlp(text)) for text in texts]
        assert all(len(doc.ents) == 2 for doc in docs[:-2])


def test_entities_of_an_earlier_component_are_replaced(nlp: spacy.Language) -> None:
    doc = nlp.make_doc("Ana Ruiz vive en Lugo.")
    doc.ents = [Span(doc, 1, 4, "OLD")]
    assert found(nlp.get_pipe("backattn")(doc)) == [("Ana Ruiz", "PER"), ("Lugo", "LOC")]


def test_a_pipeline_is_saved_and_loaded(nlp: spacy.Language, tmp_path: Path) -> None:
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    assert found(again(TEXT)) == found(nlp(TEXT))
    value = json.loads((tmp_path / "pipeline/backattn/backattn.json").read_text())
    assert value["run"] == str(nlp.get_pipe("backattn").tagger.run)
    other = spacy.blank("es")
    other.add_pipe("backattn")
    other.from_bytes(nlp.to_bytes())
    assert found(other(TEXT)) == found(nlp(TEXT))


def test_another_run_in_its_place_is_refused(nlp: spacy.Language, tmp_path: Path) -> None:
    nlp.to_disk(tmp_path / "pipeline")
    weights = nlp.get_pipe("backattn").tagger.run / "weights.safetensors"
    data = weights.read_bytes()
    status, _, err = run(
        "train", "es", "--inputs", "words", "--seeds", "2", "--threads", "1", "--device", "cpu",
        "--set", "tagger.epochs=1",
    )  # fmt: skip
    assert status == 0, err
    (other,) = Path("cache/es/runs").glob("*seed2*")
    try:
        weights.write_bytes((other / "weights.safetensors").read_bytes())
        with pytest.raises(
            StaleError, match=r"backattn\.json: the run .*seed1.* has other weights than when"
        ):
            spacy.load(tmp_path / "pipeline")
    finally:
        weights.write_bytes(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "damaged .not a table"),
        ('{"run": 3, "weights": "x"}', "expected the texts run and weights"),
        ('{"run": "es", "weights": "x", "trust": true}', "expected the texts run and weights"),
        ('{"run": "elsewhere", "weights": "x"}', "elsewhere: holds no run"),
    ],
    ids=lambda text: text[:9],
)
def test_a_damaged_file_is_refused(nlp: spacy.Language, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "backattn.json").write_text(text)
    with pytest.raises((ModelError, MissingError), match=message) as caught:
        nlp.create_pipe("backattn").from_disk(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_component_without_a_run_says_so(home: Path) -> None:
    nlp = spacy.blank("es")
    nlp.add_pipe("backattn")
    with pytest.raises(MissingError, match=r"the component backattn has no run; add it as add_pipe"):
        nlp("Ana")
    with pytest.raises(MissingError, match=r"es: is a LANG, expected a run"):
        nlp.add_pipe("backattn", name="other", config={"run": "es"})


@pytest.mark.slow
def test_a_run_on_characters_reads_the_characters_of_words(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the words of the pipeline are; an entity in a word takes the whole word."""
    names, places = ("王明", "李华", "张伟", "刘洋"), ("北京", "上海", "南京", "天津")
    rows = "\n".join(
        f"{a} B-PER\n{b} I-PER\n住 O\n在 O\n{c} B-LOC\n{d} I-LOC\n" for a, b in names for c, d in places
    )
    make_home(tmp_path, monkeypatch, TABLES, corpus=dict.fromkeys(("train", "dev", "test"), rows))
    status, _, err = run(
        "train", "toy", "--inputs", "words", "--seeds", "1", "--threads", "1", "--device", "cpu",
        "--set", "corpus.unit=character", "--set", "translator.source=zh",
    )  # fmt: skip
    assert status == 0, err
    nlp = spacy.blank("xx")
    nlp.add_pipe("backattn", config={**CONFIG, "run": "toy"})
    component = nlp.get_pipe("backattn")
    assert component.tagger.unit == "character"
    expected = [("王明", "PER"), ("北京", "LOC")]
    words = [["王明", "住在", "北京"], list("王明住在北京"), ["王", "明", "住", "在", "北京"]]
    for own in words:
        assert found(component(Doc(nlp.vocab, own, spaces=[False] * len(own)))) == expected
    whole = component(Doc(nlp.vocab, ["王明住", "在北京"], spaces=[False] * 2))
    assert found(whole) == [("王明住", "PER"), ("在北京", "LOC")]
    assert len(component(Doc(nlp.vocab, ["王明住在北京"])).ents) == 1
