"""How the cost of both stages grows with the corpus: a table, and a plot of its own (``growth.svg``).

``python -m benchmarks.growth STAGE RECIPE`` is the job whose time and memory are taken.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from backattn.corpus.formats import read_corpus
from backattn.english import EnglishReading
from backattn.experiments.grid import parse_grid
from backattn.experiments.runs import train_grid
from backattn.features.build import build_transfers, build_translations
from backattn.features.plan import make_plan
from backattn.recipe import load_recipe
from backattn.report.markup import element, render
from backattn.report.plots import Point, Series, line_chart
from backattn.store.reader import StoreReader
from backattn.translation import Translation
from benchmarks.materials import invented, workplace, write_project
from benchmarks.measure import Cost, Ratios, Row, watched
from fakes import FakeEnglishTagger, FakeTranslator

SIZES = (1_000, 10_000, 100_000)
PLOT = Path("cache/bench/growth.svg")
_STAGES = {"one": "stage one, models of no cost", "two": "stage two, one epoch of a small tagger"}


def rows(_: int) -> Iterator[Row]:
    """Each size once: the time of a sentence against that in the smallest corpus, and the peak memory."""
    costs: dict[str, list[Cost]] = {stage: [] for stage in _STAGES}
    for size in SIZES:
        with workplace() as folder:
            (folder / "cache/translator").mkdir(parents=True)
            (folder / "cache/translator/checkpoint.pt").write_text("never opened")
            (folder / "cache/tagger.safetensors").write_text("never opened")
            lang = write_project(folder, invented(size))
            for stage, found in costs.items():
                found.append(watched([sys.executable, "-m", "benchmarks.growth", stage, lang]))
    for stage, found in costs.items():
        for size, cost in zip(SIZES, found, strict=True):
            rate = size / cost.seconds
            yield Row(
                part=f"growth: {_STAGES[stage]}, {size:,} sentences", peer=f"{SIZES[0]:,} sentences",
                unit="sentences", rate=rate, ratio=Ratios.of([rate / (SIZES[0] / found[0].seconds)]),
                figure=f"{cost.seconds:.1f} s, {cost.memory:.0f} MB",
                note="sentences a second against the smallest corpus; peak memory without files' pages",
            )  # fmt: skip
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(_plot(costs), "utf-8")


def _plot(costs: dict[str, list[Cost]]) -> str:
    """Two charts, one beside the other, that need no page around them."""
    time = {
        s: [1000 * cost.seconds / size for size, cost in zip(SIZES, costs[s], strict=True)] for s in costs
    }
    memory = {stage: [cost.memory for cost in costs[stage]] for stage in costs}
    charts = [_chart(time, "seconds for 1,000 sentences"), _chart(memory, "peak memory, MB")]
    names = [
        element("text", f"{'—' if stage == 'one' else '– –'} {name}", {"x": 46 + 440 * i, "y": 300})
        for i, (stage, name) in enumerate(_STAGES.items())
    ]
    placed = [
        chart.replace("<svg ", Markup('<svg x="{}" width="440" height="280" ').format(440 * i), 1)
        for i, chart in enumerate(charts)
    ]
    frame = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": "0 0 880 310", "font-family": "sans-serif"}
    ground = element("rect", "", {"width": 880, "height": 310, "fill": "var(--page)"})
    style = element("style", render("style.css.j2"))
    return element("svg", Markup().join([style, ground, *placed, *names]), frame)


def _chart(values: dict[str, list[float]], label: str) -> Markup:
    series = [
        Series(
            _STAGES[stage],
            number,
            tuple(Point(x, y, min(y, 0.0), y) for x, y in zip(SIZES, found, strict=True)),
        )
        for number, (stage, found) in enumerate(values.items(), start=1)
    ]
    return line_chart(series, title=label, x_label="sentences", y_label=label, x_ticks=SIZES)


class _Translator(FakeTranslator):
    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        self.seen.clear()  # a corpus of notes would count as memory
        return super().translate(sentences)


class _Tagger(FakeEnglishTagger):
    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        self.seen.clear()
        return super().read(sentences)


def _job(stage: str, lang: str) -> None:
    recipe = load_recipe(lang)
    corpus = read_corpus(recipe.corpus)
    if stage == "one":
        plan = make_plan(recipe, corpus)
        build_translations(plan.translation, _Translator, "cpu")  # type: ignore[arg-type]
        translations = StoreReader(plan.translation.path)
        build_transfers(plan.transfer, translations, recipe.transfer, _Tagger, "cpu")
    else:
        grid = parse_grid("words+transfer", "all", "1", default_sentences="all")
        train_grid(recipe, corpus, grid, device="cpu").whole()


if __name__ == "__main__":
    _job(*sys.argv[1:])
