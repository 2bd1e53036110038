"""The command line. One short function a command; the work is in the library.

Heavy packages are imported inside the commands that need them: ``check``, and a ``features`` that has
nothing to do, must not wait for torch.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from backattn import __version__
from backattn.corpus.formats import read_corpus
from backattn.errors import BackattnError, RecipeError, out_of_memory
from backattn.recipe import Recipe, available_recipes, cache_root, load_english, load_recipe

# Two threads that wait actively for each other on a busy machine take many times as long. The OpenMP
# runtime reads this once, when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What `pip install backattn` leaves out and `backattn[features]` brings.
_STAGE_ONE = {
    "fairseq", "flair", "huggingface_hub", "omegaconf", "sacrebleu", "sacremoses", "sentencepiece",
    "transformers",
}  # fmt: skip

# What is finished is kept in shards, epochs and runs.
_GOES_ON = "run the same command again: it goes on from what is finished"
_SMALLER = (
    "set batch_tokens (of translator, english or the embeddings) or tagger.batch lower (--set KEY=VALUE)"
)

_F = TypeVar("_F", bound=Callable[..., Any])


class OneLine(click.Group):
    """A user's mistake is one line on standard error and the error's exit status, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print what the user can mend as one line."""
        try:
            return super().invoke(ctx)
        except BackattnError as error:
            _say(str(error))
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            _stop()
        except (MemoryError, RuntimeError, OSError) as error:
            if not out_of_memory(error):
                raise
            _say(f"out of memory; {_SMALLER}, then {_GOES_ON}")
            ctx.exit(2)
        except ModuleNotFoundError as error:
            if error.name not in _STAGE_ONE:
                raise
            _say(
                f"stage one needs the package {error.name}, which is not installed; "
                "install backattn[features] as the README says under Installing"
            )
            ctx.exit(2)

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        """Read the command line; Ctrl-C may come as early as here."""
        try:
            return super().make_context(*arguments, **named)
        except KeyboardInterrupt:
            _stop()

    def main(self, *arguments: Any, **named: Any) -> Any:
        """Everything, the printing of a help text included."""
        try:
            return super().main(*arguments, **named)
        except KeyboardInterrupt:
            _stop()
        except OSError as error:  # of the machine, not of the input: a full disk, a folder without rights
            _say(f"{error.filename or 'output'}: {error.strerror or error}; mend that, then {_GOES_ON}")
            if not error.filename:  # what is still to be written would fail once more when Python ends
                with suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(2)


def _stop() -> NoReturn:
    _say(f"stopped; {_GOES_ON}")
    sys.exit(130)


def _say(message: str) -> None:
    with suppress(OSError):  # where nobody can be told, the exit status still says it
        click.echo(f"backattn: {message}", err=True)


def _recipe_options(command: _F) -> _F:
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE",
        help="Replace one value of the recipe, as in tagger.epochs=3. May be given often.",
    )(command)  # fmt: skip
    return click.argument("lang")(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for a machine.")
_device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, or auto: the GPU where there is one."
)
_trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Open a flair model (a pickle: it can run code) without a pinned sha256.",
)
_only_option = click.option(
    "--only", "part", type=click.Choice(["all", "transfer", "embeddings"]), default="all", show_default=True,
    help="transfer: the translations and T; embeddings: the frozen features, which need no translator.",
)  # fmt: skip
_threads_option = click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all cores.")


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="backattn")
def main() -> None:
    """Named entity recognition with what an English tagger knows (Back Attention).

    LANG is the name of a recipe in pipelines/ (de for pipelines/de.toml) or the path of one. Corpora
    lie below data/ (or $BACKATTN_DATA), everything that is made below cache/ (or $BACKATTN_CACHE).

    \b
    The way from a corpus to scores:
      backattn translator train de    once, where no translator is at hand
      backattn english train          once, where no English tagger is at hand
      backattn features de            stage one: the expensive models, once for each sentence
      backattn train de               stage two: many small taggers on the cached features
      backattn report de              tables of the runs
    """


@main.command()
@_recipe_options
@_json_option
def corpus(lang: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print the statistics of a data set (the paper's Table 1)."""
    from backattn.corpus.statistics import corpus_statistics

    statistics = corpus_statistics(read_corpus(load_recipe(lang, overrides).corpus))
    _answer(statistics.to_json(), statistics.to_text(), as_json)


@main.command()
@_recipe_options
@_only_option
@click.option("--dry-run", is_flag=True, help="Only say what would be computed.")
@_device_option
@_trust_option
@_json_option
def features(
    lang: str, overrides: tuple[str, ...], part: Any, dry_run: bool, device: str, trust: bool, as_json: bool
) -> None:
    """Stage one: translate the corpus, tag the translation, cache T = A R; compute the embeddings.

    Computes what is missing of the stores that the recipe asks for.
    """
    from backattn.features.check import check as check_plan
    from backattn.features.check import refuse_corrupt
    from backattn.features.estimate import estimate
    from backattn.features.plan import make_plan

    recipe, data = _load(lang, overrides)
    plan = make_plan(recipe, data, part)
    statuses = check_plan(plan)
    refuse_corrupt(statuses)
    if dry_run or all(status.state == "fresh" for status in statuses):
        times = estimate(plan, statuses)
        text = "\n".join([*map(_status_line, statuses), *(time.to_text() for time in times)])
        _answer({"stages": _plain(statuses), "estimates": _plain(tuple(times))}, text, as_json)
        return
    from backattn.device import pick_device
    from backattn.features.pipeline import make_features

    made = make_features(recipe, plan, device=pick_device(device), trust=trust).stores
    answer = {name: _plain(built) for name, built in made.items()}
    _answer(answer, "\n".join(map(_built_line, made.values())), as_json)


@main.command()
@_recipe_options
@_only_option
@click.option("--deep", is_flag=True, help="Read and verify every byte.")
@_json_option
@click.pass_context
def check(
    ctx: click.Context, lang: str, overrides: tuple[str, ...], part: Any, deep: bool, as_json: bool
) -> None:
    """Is the cache what this corpus and this recipe ask for?

    Exit status: 0 fresh, 1 stale or missing, 2 corrupt.
    """
    from backattn.features.check import check as check_plan
    from backattn.features.plan import make_plan

    recipe, data = _load(lang, overrides)
    statuses = check_plan(make_plan(recipe, data, part), deep=deep)
    _answer(_plain(statuses), "\n".join(map(_status_line, statuses)), as_json)
    ctx.exit(max(status.exit_status for status in statuses))


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@_json_option
def show(store: Path, as_json: bool) -> None:
    """Where each number of a STORE comes from: corpora, models, recipe, versions, device, date, commit."""
    from backattn.store.provenance import to_json, to_text
    from backattn.store.reader import StoreReader

    reader = StoreReader(store)
    _answer(to_json(reader), to_text(reader), as_json)


@main.command()
@_recipe_options
@_only_option
@click.option("--others", is_flag=True, help="Remove the stores of all other recipes of this LANG as well.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@_json_option
def gc(lang: str, overrides: tuple[str, ...], part: Any, others: bool, dry_run: bool, as_json: bool) -> None:
    """Free what the cache of LANG no longer needs: leftovers, sentences that left the corpus."""
    from backattn.features.gc import collect_garbage
    from backattn.features.plan import make_plan

    recipe, data = _load(lang, overrides)
    found = collect_garbage(make_plan(recipe, data, part), others=others, dry_run=dry_run)
    lines = [f"{item.path}: {item.bytes / 1e6:.1f} MB, {item.reason}" for item in found]
    total = f"{sum(item.bytes for item in found) / 1e6:.1f} MB {'would be' if dry_run else ''} freed"
    _answer(_plain(tuple(found)), "\n".join([*lines, " ".join(total.split())]), as_json)


@main.command()
@_recipe_options
@click.option("--inputs", default="words,words+transfer", show_default=True,
              help="Comma-separated: words, words+transfer (BAN), transfer, random.")  # fmt: skip
@click.option("--seeds", default="1,2,3,4,5", show_default=True, help="Comma-separated numbers.")
@click.option(
    "--sentences", default="all", show_default=True,
    help="Comma-separated: numbers of training sentences (nested samples), shares as 5%, or all.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1),
              help="Runs side by side, a process each; default: as many as fill the cores.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of a run.")
@_device_option
@_json_option
def train(
    lang: str, overrides: tuple[str, ...], inputs: str, seeds: str, sentences: str, jobs: int | None,
    threads: int, device: str, as_json: bool,
) -> None:  # fmt: skip
    """Stage two: train the taggers on the cached features. A killed training goes on.

    A run that fails does not stop the others. The numbers depend on --threads, but not on --jobs.
    """
    from backattn.experiments import parse_grid, train_grid

    recipe, data = _load(lang, overrides)
    grid = parse_grid(inputs, sentences, seeds, default_sentences=recipe.tagger.sentences)
    trained = train_grid(recipe, data, grid, device=device, threads=threads, jobs=jobs)
    if trained.runs:
        _answer([_run_json(run) for run in trained.runs], "\n".join(map(_run_line, trained.runs)), as_json)
    for error in trained.errors[1:]:
        click.echo(f"backattn: {error}", err=True)
    trained.whole()


@main.command()
@click.argument("langs", metavar="LANG...", nargs=-1, required=True)
@_json_option
def report(langs: tuple[str, ...], as_json: bool) -> None:
    """Tables of the runs: mean and deviation over the seeds, and what T adds."""
    from backattn.report.tables import make_report

    made = make_report(langs, cache_root())
    for line in made.warnings:
        click.echo(f"backattn: {line}", err=True)
    _answer(made.to_json(), made.to_text(), as_json)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--format", "form", type=click.Choice(["lines", "columns"]), default="lines", show_default=True,
    help="lines: a sentence a line; columns: a token a line, an empty line between sentences.",
)  # fmt: skip
@_device_option
@_trust_option
@click.option("--batch", default=256, show_default=True, help="Sentences read before an answer is given.")
def tag(run: Path, file: Path | None, form: Any, device: str, trust: bool, batch: int) -> None:
    """Tag new text with a trained RUN (a folder below cache/LANG/runs), through both stages.

    FILE (or standard input) is UTF-8, already split into tokens; Chinese is split into characters.
    Prints token and tag in two columns.
    """
    from backattn.tagging import open_text, tag_text

    with open_text(file) as source:
        tag_text(run, source, sys.stdout, form=form, device=device, trust=trust, batch=batch)


@main.command()
@_recipe_options
@click.argument("sentences", metavar="SENTENCE...", nargs=-1, required=True)
@click.option("--run", type=click.Path(path_type=Path), help="Show this run's predictions too.")
@_json_option
def inspect(
    lang: str, sentences: tuple[str, ...], overrides: tuple[str, ...], run: Path | None, as_json: bool
) -> None:
    """Show how one SENTENCE was translated, attended to and tagged; writes a page for each.

    SENTENCE is a place in the corpus, such as test:12 (from 1), or the exact tokens with spaces between.
    """
    from backattn.report.inspection import inspect as inspect_sentences

    recipe, data = _load(lang, overrides)
    made = inspect_sentences(recipe, data, sentences, run, cache_root())
    _answer(made.to_json(), made.to_text(), as_json)


@main.group()
def translator() -> None:
    """The translator of a recipe."""


@translator.command("train")
@_recipe_options
@_threads_option
@_json_option
def translator_train(lang: str, overrides: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    """Train the fairseq translator that the recipe describes; goes on after a kill."""
    from backattn.features.translation.training import train_translator
    from backattn.recipe import model_path

    recipe = load_recipe(lang, overrides)
    folder = model_path(recipe.translator.checkpoint)
    made = train_translator(recipe, folder=folder, threads=threads, progress=sys.stderr.isatty())
    _answer(made.to_json(), made.to_text(), as_json)


@main.group()
def charlm() -> None:
    """The character language models of a recipe."""


@charlm.command("train")
@_recipe_options
@_threads_option
@_json_option
def charlm_train(lang: str, overrides: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    """Train both directions of the character language model that the recipe describes, with flair."""
    from backattn.features.embeddings.charlm_training import train_charlm
    from backattn.recipe import model_path

    recipe = load_recipe(lang, overrides)
    folder = model_path(recipe.embeddings.charlm.checkpoint if recipe.embeddings.charlm else "")
    made = train_charlm(recipe, folder=folder, threads=threads, progress=sys.stderr.isatty())
    _answer(made.to_json(), made.to_text(), as_json)


@main.group()
def english() -> None:
    """The English tagger."""


@english.command("train")
@click.argument("lang", default="english")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace one value of the recipe."
)
@_threads_option
@_json_option
def english_train(lang: str, overrides: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    """Train the flair English tagger that pipelines/english.toml (or LANG's) describes."""
    from backattn.features.english.training import train_english
    from backattn.recipe import model_path

    recipe = load_english(lang, overrides)
    folder = model_path(recipe.checkpoint).parent
    made = train_english(recipe, folder=folder, threads=threads, progress=sys.stderr.isatty())
    _answer(made.to_json(), made.to_text(), as_json)


@english.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--sha256", default="", metavar="HEX", help="Digest that SOURCE must have.")
@click.option("--trust", is_flag=True, help="Open SOURCE whatever its digest. It can run code.")
@_json_option
def english_convert(source: Path, target: Path, sha256: str, trust: bool, as_json: bool) -> None:
    """Turn the flair file SOURCE (a pickle) into TARGET, a safetensors file, in which nothing can run.

    Opens SOURCE once, and writes TARGET when both give the same states and tags.
    """
    from backattn.features.english.conversion import convert_tagger

    made = convert_tagger(source, target, sha256=sha256, trust=trust)
    _answer(made.to_json(), made.to_text(), as_json)


@main.command()
@_recipe_options
@_device_option
@_json_option
def align(lang: str, overrides: tuple[str, ...], device: str, as_json: bool) -> None:
    """Measure A: the translator's alignment error rate on gold alignments, beside the diagonal's."""
    from backattn.device import pick_device
    from backattn.features.alignment import measure_alignment
    from backattn.features.pipeline import load_translator

    recipe = load_recipe(lang, overrides)
    if recipe.alignment is None:
        raise RecipeError(
            f"{lang}: no [alignment] table: this recipe names no gold alignments; pipelines/es.toml shows one"
        )
    made = measure_alignment(
        recipe.alignment,
        recipe.corpus.unit,
        lambda pairs: load_translator(recipe, pick_device(device)).align(pairs),
    )
    _answer(made.to_json(), made.to_text(), as_json)


@main.command()
@_recipe_options
@_json_option
def project(lang: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Zero-shot: bring the English tags home through A, with no training; scores them on dev and test.

    Needs the stores of `backattn features`.
    """
    from backattn.projection import project as project_tags

    made = project_tags(*_load(lang, overrides))
    _answer(made.to_json(), made.to_text(), as_json)


@main.command()
def sample() -> None:
    """Write the embedded sample's corpora below cache/sample/data."""
    from backattn.sample import write_sample

    folder = cache_root() / "sample" / "data"
    write_sample(folder)
    click.echo(f"{folder}: the sample's corpora; next: backattn translator train sample")


@main.command()
@_threads_option
def demo(threads: int | None) -> None:
    """Both stages on the embedded sample, from nothing to a table; a few minutes on two cores."""
    from backattn.demo import run_demo

    run_demo(threads=threads, say=lambda line: click.echo(line))


@main.command()
def recipes() -> None:
    """List the recipes of pipelines/."""
    click.echo("\n".join(available_recipes()))


def _load(lang: str, overrides: tuple[str, ...]) -> tuple[Recipe, Any]:
    recipe = load_recipe(lang, overrides)
    return recipe, read_corpus(recipe.corpus)


def _answer(value: Any, text: str, as_json: bool) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return json.loads(json.dumps(dataclasses.asdict(value), default=str))


def _status_line(status: Any) -> str:
    line = f"{status.name}: {status.state}; {status.sentences} sentences, {status.missing} to compute"
    if status.extra:
        line += f", {status.extra} no longer in the corpus"
    counted = "".join(f"; {name}: {count}" for name, count in status.counts.items())
    return "\n".join([f"{line}{counted} ({status.path})", *(f"  {reason}" for reason in status.reasons)])


def _built_line(built: Any) -> str:
    counted = ", ".join(f"{name}: {count}" for name, count in built.counts.items())
    return (
        f"{built.path}: {built.sentences} sentences, {built.computed} computed, "
        f"{built.resumed} taken from a stopped run; {counted}"
    )


def _run_json(run: Any) -> dict[str, Any]:
    figures = {"dev": run.dev.overall.f1, "test": run.test.overall.f1, "best_epoch": run.best_epoch}
    return {"folder": str(run.folder), **figures, "seconds": run.seconds, "signature": run.test.signature}


def _run_line(run: Any) -> str:
    named = {"F1": run.test.overall, **{name: run.test.group(name) for name in run.test.groups}}
    figures = ", ".join(f"{name} {100 * counts.f1:.2f}" for name, counts in named.items())
    return (
        f"{run.inputs}, {run.sentences} sentences, seed {run.seed}: test {figures} "
        f"(dev {100 * run.dev.overall.f1:.2f}, epoch {run.best_epoch}, {run.seconds:.0f} s; {run.folder})\n"
        f"  {run.test.signature}"
    )
