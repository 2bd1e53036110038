"""What a user waits for: nothing to do, a small edit; and the memory of both stages as the corpus grows."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from backattn.corpus.formats import read_corpus
from backattn.features.build import build_transfers, build_translations
from backattn.features.pipeline import load_english_tagger, load_translator, make_features
from backattn.features.plan import make_plan
from backattn.models.vouchers import NOBODY
from backattn.recipe import Recipe, load_recipe
from backattn.store.reader import StoreReader
from benchmarks.materials import altered_by, corpus_of, put_models, sources, workplace, write_project
from benchmarks.measure import Cost, Row, condition, watched, within
from fakes import FakeEnglishTagger, FakeTranslator

IDLE, EDITED, SMALL, GROWTH = 8920, 8920, 400, 10
_TORCH = "torch was imported"
_SAYS_TORCH = (
    "import sys; from backattn.cli import main; main(standalone_mode=False); "
    f"'torch' in sys.modules and print('{_TORCH}')"
)
_CALL = "from backattn.cli import main; main()"
_TRAIN = ("--inputs", "words+transfer", "--seeds", "1", "--threads", "1")


def rows(repeats: int) -> Iterator[Row]:
    """Each in a folder of its own."""
    torch.set_num_threads(1)
    for count in (IDLE, EDITED, SMALL):
        sources(count)  # reads the corpus while the environment still says where it is
    for measurement in (_nothing_to_do, _one_percent, _memory):
        with workplace() as folder:
            yield from measurement(folder, repeats)


def _nothing_to_do(folder: Path, repeats: int) -> Iterator[Row]:
    text, sentences = sources(IDLE)
    models = put_models(folder / "cache")
    lang = write_project(folder, sentences)
    recipe = load_recipe(lang)
    plan = make_plan(recipe, read_corpus(recipe.corpus))
    # Who made the stores does not matter here.
    build_translations(plan.translation, FakeTranslator, "cpu")  # type: ignore[arg-type]
    translated = StoreReader(plan.translation.path)
    build_transfers(plan.transfer, translated, recipe.transfer, FakeEnglishTagger, "cpu")
    for command in ("features", "check"):
        costs = [watched([sys.executable, "-c", _SAYS_TORCH, command, lang]) for _ in range(repeats + 1)][1:]
        cpu = statistics.median(cost.cpu for cost in costs)
        loaded = sum(_TORCH in cost.output for cost in costs)
        yield condition(
            f"`{command}` with nothing to do", "torch is not imported", held=not loaded,
            found=f"imported in {loaded} of {len(costs)} runs",
        )  # fmt: skip
        yield within(
            part=f"`{command}` with nothing to do", budget="1.5 s", unit="s", limit=1.5,
            measured=[cost.seconds for cost in costs],
            note=f"{text}; model files: {models}; {cpu:.2f} s of processor time",
        )  # fmt: skip


def _one_percent(folder: Path, repeats: int) -> Iterator[Row]:
    text, sentences = sources(EDITED)
    models = put_models(folder / "cache")
    recipe = load_recipe(write_project(folder, sentences))
    loading = min(_seconds(lambda: _load(recipe)) for _ in range(3))
    full = _seconds(lambda: make_features(recipe, make_plan(recipe, corpus_of(sentences)), device="cpu"))
    edits = []
    edited = list(sentences)  # each edit upon the last: what was edited away is no longer in the store
    for repeat in range(1, repeats + 1):
        for place in range(repeat, len(edited), 100):
            edited[place] = altered_by(edited[place], repeat)
        plan = make_plan(recipe, corpus_of(edited))
        edits.append(_seconds(lambda plan=plan: make_features(recipe, plan, device="cpu")))  # type: ignore[misc]
    share = statistics.median((edit - loading) / full for edit in edits)
    yield within(
        part="1 % of the sentences edited", budget="2 % of the full run, and loading the models", unit="s",
        limit=0.02 * full + loading, measured=edits,
        note=f"{text}; {models}; full run {full:.1f} s, loading {loading:.1f} s; "
        f"{share:.2%} of the full run without it",
    )  # fmt: skip


def _memory(_: Path, __: int) -> Iterator[Row]:
    """Once: what a process takes at its peak hardly differs from run to run."""
    models = ""
    costs: dict[str, list[Cost]] = {"features": [], "train": []}
    text, sentences = sources(SMALL)
    # The same lengths ten times over: what else could grow is the corpus alone.
    large_corpus = [altered_by(tokens, copy) for copy in range(GROWTH) for tokens in sentences]
    for corpus in (sentences, large_corpus):
        with workplace() as place:
            models = put_models(place / "cache")
            lang = write_project(place, corpus)
            for command, found in costs.items():
                options = _TRAIN if command == "train" else ()
                found.append(watched([sys.executable, "-c", _CALL, command, lang, *options]))
    for (small, large), stage in zip(costs.values(), ("one", "two"), strict=True):
        yield within(
            part=f"peak memory of stage {stage}, {GROWTH} times the corpus", budget="1.10 times the peak",
            unit="MB", limit=1.1 * small.memory, measured=[large.memory],
            note=f"{text}: {small.memory:.0f} MB, {GROWTH} times, a word altered: {large.memory:.0f} MB; "
            f"pages of files left out; {models}",
        )  # fmt: skip


def _load(recipe: Recipe) -> None:
    load_translator(recipe, "cpu")
    load_english_tagger(recipe, "cpu", NOBODY)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
