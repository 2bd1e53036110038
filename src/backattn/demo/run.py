"""``make demo``: both stages on the embedded sample, from nothing to a table, with real models."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from backattn.common.device import pick_device
from backattn.corpus.formats import read_corpus
from backattn.demo.sample import write_sample
from backattn.experiments.grid import RunGrid
from backattn.experiments.runs import train_grid
from backattn.features.pipeline import make_features
from backattn.features.plan import make_plan
from backattn.recipe import cache_root, load_recipe
from backattn.report.tables import make_report
from backattn.training.training_plan import Training, trainings

SEEDS = (1, 2, 3)


def run_demo(*, threads: int | None, say: Callable[[str], None]) -> None:
    """Write the sample, train a translator and an English tagger on it, run both stages, report.

    Everything that a former run has finished is kept; delete ``cache/sample`` to start anew.

    :param say: takes each line for the user.
    """
    start = time.monotonic()

    @contextmanager
    def step(name: str) -> Iterator[None]:
        say(f"{name} ...")
        began = time.monotonic()
        yield
        say(f"  done in {time.monotonic() - began:.0f} s")

    def make(training: Training) -> None:
        if training.state() == "to train":
            say(training.run(threads, False).to_text())

    home = cache_root() / "sample"
    with step("1/6 the sample: a small bilingual world, written by a grammar"):
        write_sample(home / "data")
        recipe = load_recipe("sample")
        corpus = read_corpus(recipe.corpus)
        translator, english = trainings(recipe)
    with step("2/6 a German-English fairseq translator"):
        make(translator)
    with step("3/6 an English flair tagger"):
        make(english)
    with step("4/6 stage one: features, once for each sentence"):
        made = make_features(recipe, make_plan(recipe, corpus), device=pick_device("auto"))
        for built in (made.translation, made.transfer):
            say(f"  {built.path}: {built.sentences} sentences, {built.computed} computed")
    with step(f"5/6 stage two: base and +BAN on {len(corpus.train)} labelled sentences, {len(SEEDS)} seeds"):
        grid = RunGrid(inputs=("words", "words+transfer"), sentences=("all",), seeds=SEEDS)
        runs = train_grid(recipe, corpus, grid, device="auto", jobs=None).whole()
    with step("6/6 report"):
        report = make_report(["sample"], cache_root())
    say("")
    say(report.to_text())
    say("")
    say(f"Where things lie: models and data in {home}, stores in {home}/translation and {home}/transfer,")
    say(f"{len(runs)} runs in {home}/runs, the report in {home}/report.")
    say(f"{time.monotonic() - start:.0f} s in all.")
    best = max(runs, key=lambda run: run.dev.overall.f1)
    say(f"Tag new text: echo 'Frau Weber wohnt in München .' | {sys.argv[0]} tag {best.folder}")
