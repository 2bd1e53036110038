"""The time that is left: from what was measured, or said to be rough."""

from pathlib import Path

import pytest

from backattn.corpus import Corpus
from backattn.features import build
from backattn.features.check import check
from backattn.features.estimate import Estimate, estimate
from backattn.features.plan import make_plan
from backattn.store.reader import StoreReader
from backattn.translation import Translation
from fakes import FakeTranslator, make_corpus, make_recipe

TEXTS = [f"one two three {i}" for i in range(50)]


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


def estimates(corpus: Corpus, **sections: object) -> dict[str, Estimate]:
    plan = make_plan(make_recipe(**sections), corpus)
    return {found.name: found for found in estimate(plan, check(plan))}


def test_an_estimate_follows_the_measured_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = estimates(make_corpus(TEXTS))
    assert "rough" in before["translation"].basis
    plan = make_plan(make_recipe(), make_corpus(TEXTS))
    translator = SlowTranslator()
    monkeypatch.setattr(build, "time", translator)
    build.build_translations(plan.translation, lambda: translator, "cpu")
    origin, *others = StoreReader(plan.translation.path).origins.values()
    assert not others
    assert origin.tokens == 4 * 50 + 2 + 2
    assert origin.seconds == origin.tokens / 4
    # 100 tokens more, in this store and in one of another recipe of the same kind
    more = make_corpus([*TEXTS, *(f"new and longer {i} 5" for i in range(20))])
    other = estimates(
        make_corpus(TEXTS),
        translator={"kind": "fairseq", "checkpoint": "toy/translator", "source": "de", "beam": 2},
    )
    for found in (estimates(more), other):
        assert "measured" in found["translation"].basis
    assert estimates(more)["translation"].seconds == pytest.approx(100 / 4)
    assert "about" in estimates(more)["translation"].to_text()


def test_nothing_to_do_takes_no_time() -> None:
    corpus = make_corpus(TEXTS)
    plan = make_plan(make_recipe(), corpus)
    build.build_translations(plan.translation, FakeTranslator, "cpu")
    assert set(estimates(corpus)) == {"transfer"}
