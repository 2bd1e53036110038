"""The time that is left: from what was measured with the same model and device, or unknown."""

from pathlib import Path

import pytest

from backattn.corpus import Corpus
from backattn.features import build
from backattn.features.check import check
from backattn.features.engines import shard
from backattn.features.estimate import Estimate, estimate
from backattn.features.plan import make_plan
from backattn.store.reader import StoreReader
from backattn.translation import Translation
from fakes import FakeTranslator, make_corpus, make_recipe

TEXTS = [f"one two three {i}" for i in range(120)]


class SlowTranslator(FakeTranslator):
    """A quarter of a second for each token, by a clock of its own."""

    now = 0.0

    def _one(self, tokens: tuple[str, ...]) -> Translation:
        self.now += len(tokens) / 4
        return super()._one(tokens)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKATTN_CACHE", str(tmp_path))
    for name in ("toy/translator/checkpoint.pt", "toy/english/tagger.pt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("a model")


BEAM_2 = {"kind": "fairseq", "checkpoint": "toy/translator", "source": "de", "beam": 2}


def estimates(corpus: Corpus, device: str = "auto", **sections: object) -> dict[str, Estimate]:
    plan = make_plan(make_recipe(**sections), corpus)
    return {found.name: found for found in estimate(plan, check(plan), device)}


def translate(texts: list[str], monkeypatch: pytest.MonkeyPatch, device: str, name: str = "toy") -> None:
    plan = make_plan(make_recipe(name=name), make_corpus(texts))
    translator = SlowTranslator()
    for module in (build, shard):
        monkeypatch.setattr(module, "time", translator)
    build.build_translations(plan.translation, lambda: translator, device)
    origins = StoreReader(plan.translation.path).origins.values()
    assert sum(origin.tokens for origin in origins) == 4 * sum(origin.seconds for origin in origins)


def test_an_estimate_follows_the_speed_of_the_very_model_and_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = make_corpus([*TEXTS, *(f"new and longer {i} 5" for i in range(20))])
    before = estimates(more)["translation"]
    assert before.seconds is None
    assert "time unknown until 100 sentences are done (0 so far" in before.to_text()
    translate(TEXTS[:90], monkeypatch, "cpu")
    few = estimates(more)["translation"]
    assert few.seconds is None
    assert "(92 so far with this model and these settings)" in few.to_text()
    translate(TEXTS, monkeypatch, "cpu, bfloat16")
    # 100 tokens more. The speed is of the device on which 100 sentences were done, of whatever recipe.
    assert estimates(more)["translation"].seconds is None
    translate([*TEXTS, *(f"other {i}" for i in range(20))], monkeypatch, "cpu", name="other")
    found = estimates(more)["translation"]
    assert found.seconds == pytest.approx(100 / 4)
    assert found.device == "cpu"
    assert estimates(more, "cpu")["translation"] == found
    assert "about 25 s on cpu" in found.to_text()
    gpu = estimates(more, "cuda")["translation"]
    assert gpu.seconds is None
    assert "0 so far with this model and these settings on cuda" in gpu.to_text()
    # Neither of another beam, nor of another model at the same place.
    assert estimates(more, translator=BEAM_2)["translation"].seconds is None
    (tmp_path / "toy/translator/checkpoint.pt").write_text("another model")
    assert estimates(more)["translation"].seconds is None


def test_a_store_of_another_form_gives_no_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translate(TEXTS, monkeypatch, "cpu")
    (path,) = (tmp_path / "toy/translation").glob("*.h5")
    (path.parent / "1-0000.h5").write_bytes(b"no store")
    (path.parent / "1-1111.h5").write_bytes(path.read_bytes())  # a copy counts once
    found = estimates(make_corpus([*TEXTS, "one more"]))["translation"]
    assert found.seconds == pytest.approx(2 / 4)
    assert f"over {len(TEXTS) + 2} sentences" in found.basis


def test_nothing_to_do_takes_no_time() -> None:
    corpus = make_corpus(TEXTS)
    plan = make_plan(make_recipe(), corpus)
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    assert set(estimates(corpus)) == {"transfer"}
