"""Commands of stage two: train runs, report on them, tag new text, inspect and project."""

import os
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backattn.cli.options import (
    address_option,
    answer,
    device_option,
    json_option,
    load,
    preset_option,
    recipe_options,
    say_next,
    set_option,
    trust_options,
    with_overrides,
)
from backattn.common.extras import require_extras
from backattn.common.safe_text import data_output, printable
from backattn.recipe import cache_root

if TYPE_CHECKING:
    from backattn.cluster import Cluster


@click.command()
@recipe_options
@click.option(
    "--inputs", show_default="words,words+transfer; words alone while stage one cannot be run",
    help="Comma-separated: words, words+transfer (BAN), transfer, random.",
)  # fmt: skip
@click.option("--seeds", default="1,2,3,4,5", show_default=True, help="Comma-separated numbers.")
@click.option(
    "--sentences", default="all", show_default=True,
    help="Comma-separated: numbers of training sentences (nested samples), percentages as 5%, or all "
    "(the value of tagger.sentences).",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1),
              help="Runs at the same time; default: as many as the cores allow, one on a GPU.")  # fmt: skip
@click.option("--engine", type=click.Choice(["local", "ray"]),
              help="Where: local, this machine (the default); ray, the nodes of a Ray cluster.")  # fmt: skip
@address_option
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of each run."
)
@device_option
@json_option
def train(
    lang: str, overrides: tuple[str, ...], inputs: str | None, seeds: str, sentences: str, jobs: int | None,
    engine: Any, address: str | None, threads: int, device: str, as_json: bool,
) -> None:  # fmt: skip
    """Stage two: train taggers on the cached features. A killed training goes on.

    Without --inputs, only words are trained while stage one was never run and lacks a model.
    A run that fails does not stop the others. Warnings about the corpus are printed first, as by
    `backattn corpus`. The results depend on --threads, but not on --jobs.
    """
    from backattn.experiments.grid import parse_grid
    from backattn.experiments.runs import train_grid, training_warnings, unmade_transfer
    from backattn.features.engine_options import EngineOptions

    EngineOptions(engine=engine, address=address).check()
    cluster = _ray_cluster(address, device, jobs, threads) if engine == "ray" else None
    recipe, data = load(lang, overrides)
    unmade = unmade_transfer(recipe) if inputs is None else ""
    if inputs is None:
        inputs = "words" if unmade else "words,words+transfer"
    grid = parse_grid(inputs, sentences, seeds, default_sentences=recipe.tagger.sentences)
    for line in training_warnings(data, grid):
        click.echo(f"backattn: {line}", err=True)
    models = f"backattn models {with_overrides(lang, overrides)}"
    if unmade:
        features = f"backattn features {with_overrides(lang, overrides)}"
        click.echo(
            f"backattn: only words are trained, without Back Attention (words+transfer): {unmade}. To have "
            f"it: `{models}` (with --dry-run: what that needs), `{features}`, then this command again",
            err=True,
        )
    trained = train_grid(recipe, data, grid, device=device, threads=threads, jobs=jobs, cluster=cluster)
    if trained.runs:
        answer([_run_json(run) for run in trained.runs], "\n".join(map(_run_line, trained.runs)), as_json)
    for error in trained.errors[1:]:
        click.echo(f"backattn: {error}", err=True)
    trained.whole()
    if not as_json:
        useful = not all(run.learnt_nothing for run in trained.runs)
        best = f"; to tag new text: backattn tag {shlex.quote(recipe.name)} --best" if useful else ""
        transfer = f"; for Back Attention: {models} --dry-run" if unmade else ""
        say_next(f"backattn report {with_overrides(lang, overrides)}{best}{transfer}")


def _ray_cluster(
    address: str | None, device: str, workers: int | None, threads: int
) -> "Callable[[], AbstractContextManager[Cluster]]":
    """Return a function that opens the cluster: that takes seconds, and only training needs it."""
    require_extras("--engine ray", ["ray"])
    from backattn.cluster import open_cluster

    return partial(open_cluster, address, device, workers, threads)


@click.command()
@click.argument("langs", metavar="LANG...", nargs=-1, required=True)
@preset_option
@set_option
@click.option(
    "--sentences",
    help="Only runs of these numbers of training sentences: numbers, percentages as 5%, or all (the value of "
    "tagger.sentences). The report is printed, not written.",
)  # fmt: skip
@click.option(
    "--with", "systems", multiple=True, metavar="NAME=FILE",
    help="Another system's predictions of the test split: one token a line, in the order of the split, the "
    "predicted tag in the last column. The same NAME again is another seed. May be repeated.",
)  # fmt: skip
@json_option
def report(
    langs: tuple[str, ...], overrides: tuple[str, ...], sentences: str | None, systems: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Print and write tables of the runs: mean and standard deviation over the seeds, and what T adds.

    The column Setting names the keys in which a row differs from the recipe. With --set, rows are compared
    with the recipe with these values, and the report is printed, not written. Rows with the settings of a
    preset are named by it: preset=paper.
    """
    from backattn.experiments.grid import parse_sizes
    from backattn.report.tables import make_report

    sizes = parse_sizes(sentences) if sentences is not None else ()
    made = make_report(langs, cache_root(), overrides=overrides, sizes=sizes, systems=systems)
    for line in made.warnings:
        click.echo(f"backattn: {line}", err=True)
    answer(made.to_json(), made.to_text(), as_json)


@click.command()
@click.argument("lang", required=False)
@json_option
def runs(lang: str | None, as_json: bool) -> None:
    """List the runs of LANG, or of all, the best on dev first: F1 on dev and test, inputs, seed, folder.

    Runs that are not finished or damaged follow, with what to do.
    """
    from backattn.report.run_list import list_runs

    found = list_runs(cache_root(), lang)
    answer(found.to_json(), found.to_text(), as_json)


class _RunPath(click.Path):
    """The folder of a run; its name is enough where only one run below the cache has that name."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from backattn.report.run_list import named_run

        return named_run(Path(os.fsdecode(super().convert(value, param, ctx))), cache_root())


best_option = click.option("--best", is_flag=True, help="RUN is a LANG: take its run with the best dev F1.")


def _chosen(run: Path, best: bool) -> Path:
    """Return the folder of RUN; print the one that --best takes."""
    from backattn.report.run_list import chosen_run

    found = chosen_run(run, cache_root(), best=best)
    if isinstance(found, Path):
        return found
    click.echo(f"backattn: {found.folder} (dev F1 {100 * found.dev_f1:.2f})", err=True)
    return found.folder


@click.command()
@click.argument("run", type=_RunPath())
@best_option
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--input", "form", type=click.Choice(["text", "tokens", "columns", "conllu", "jsonl"]), default="text",
    show_default=True,
    help="text: raw text; tokens: a sentence a line, blanks between tokens; columns: a token a line, in the "
    "columns of the run's corpus (CoNLL-U, if that is); conllu: CoNLL-U; jsonl: objects with text, tokens, "
    "or both, by the names of the run's corpus or these.",
)  # fmt: skip
@click.option("--tokenizer", type=click.Choice(["moses", "spacy"]),
              help="What splits raw text into words; default: moses.")  # fmt: skip
@click.option("--no-split", is_flag=True, help="Take each line of raw text for one sentence.")
@click.option(
    "--output", type=click.Choice(["columns", "jsonl", "spans", "color"]),
    help="columns (the default): token and tag; jsonl: an object a document, its entities with places and "
    "scores; spans: an entity a line; color: the text with its entities marked.",
)  # fmt: skip
@click.option("--scheme", type=click.Choice(["BIOES", "IOB2", "BILOU"]),
              help="Tag scheme of columns; default: BIOES.")  # fmt: skip
@click.option("--color/--no-color", "ansi", default=None,
              help="Colours of --output color; default: on a terminal without NO_COLOR.")  # fmt: skip
@json_option
@device_option
@trust_options
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True,
              help="Sentences to read before tags are printed.")  # fmt: skip
def tag(
    run: Path, best: bool, file: Path | None, form: Any, tokenizer: Any, no_split: bool, output: Any,
    scheme: Any, ansi: bool | None, as_json: bool, device: str, trust: bool, trusted: frozenset[str],
    batch: int,
) -> None:  # fmt: skip
    """Tag new text with a trained RUN (a folder below cache/LANG/runs, or its name), through both stages.

    With --best, RUN is a LANG.

    FILE (- or none: standard input) is UTF-8 text, split into sentences and into the words (Chinese: the
    characters) of the run's language. A file that is clearly of another form than --input says is refused.
    A score is the probability of the entity under the CRF. --json is --output jsonl.
    A model that is a pickle needs --trust-sha256 or --trust: a digest in RUN itself does not count.
    """
    from backattn.corpus.input_text import open_input
    from backattn.models.vouchers import Vouchers

    output = _output(output, as_json)
    _refuse_beside("--input", form, "text", "jsonl", tokenizer=tokenizer, no_split=no_split)
    _refuse_beside("--output", output, "columns", scheme=scheme)
    _refuse_beside("--output", output, "color", color=ansi is not None)
    out = data_output(escaped=output != "color")
    if ansi is None:
        ansi = out.isatty() and not os.environ.get("NO_COLOR")
    run = _chosen(run, best)
    file = None if file == Path("-") else file
    with open_input(file) as source:
        from backattn.tagging import TextOptions, tag_text  # torch: only when RUN and FILE are there

        options = TextOptions(
            input=form, tokenizer=tokenizer or "moses", split=not no_split, output=output,
            scheme=scheme or "BIOES", ansi=ansi, batch=batch,
        )  # fmt: skip
        tag_text(
            run, source, str(file or "standard input"), out, options, device=device,
            vouchers=Vouchers(trust=trust, named=trusted), tell=partial(click.echo, err=True),
        )  # fmt: skip


def _output(output: str | None, as_json: bool) -> str:
    if as_json and output not in (None, "jsonl"):
        raise click.UsageError(f"--json is --output jsonl, but --output says {output}; leave one out")
    return output or ("jsonl" if as_json else "columns")


def _refuse_beside(option: str, value: str, *fitting: str, **others: Any) -> None:
    """Refuse options that apply only to other values of ``option``."""
    for name, given in others.items():
        if given and value not in fitting:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for {option} {' or '.join(fitting)}, found {option} {value}; "
                "leave one out"
            )


@click.command()
@click.argument("run", type=_RunPath())
@best_option
@click.argument("files", metavar="FILE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@device_option
@trust_options
@json_option
def evaluate(
    run: Path, best: bool, files: tuple[Path, ...], device: str, trust: bool, trusted: frozenset[str],
    as_json: bool,
) -> None:  # fmt: skip
    """Score a trained RUN on other labelled files: F1 overall and by type, with 95 % intervals.

    Each FILE is in the format of the run's corpus. Entities of types that the run does not know are counted
    as missed, predictions of types that the file has none of as wrong; both are named, and a second F1 is of
    the common types. Each result is kept as evaluations/*.json in the folder of the run. With --best, RUN is
    a LANG.
    """
    run = _chosen(run, best)
    from backattn.evaluation import evaluate as evaluate_run  # torch: only when RUN is there
    from backattn.models.vouchers import Vouchers

    vouchers = Vouchers(trust=trust, named=trusted)
    made = evaluate_run(run, files, device=device, vouchers=vouchers)
    answer([one.to_json() for one in made], "\n".join(one.to_text() for one in made), as_json)
    for one in made:
        one.save()


@click.command()
@click.argument("run", type=_RunPath())
@best_option
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--models", type=click.Choice(["copy", "names"]), default="copy", show_default=True,
    help="copy: the models that lie in files, at most 8 GiB; names: their names and sha256 alone, to be "
    "found below BACKATTN_CACHE (a dictionary and vectors: BACKATTN_DATA) of the other machine.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace DIR if it is a packaged run.")
@json_option
def package(run: Path, best: bool, folder: Path, models: Any, replace: bool, as_json: bool) -> None:
    """Package a trained RUN into DIR, a folder that tags on another machine: `backattn tag DIR FILE`.

    DIR holds the run, its models, and a model card (README.md) with data, scores by type and licences. A
    model of a hub is named by its commit or digest. What a licence forbids is said in the card and here. With
    --best, RUN is a LANG.
    """
    from backattn.packaging.package_run import package_run

    made = package_run(_chosen(run, best), folder, models=models, replace=replace)
    for line in made.warnings:
        click.echo(f"backattn: {line}", err=True)
    answer(made.to_json(), made.to_text(), as_json)


@click.command()
@recipe_options
@click.argument("sentences", metavar="[SENTENCE...]", nargs=-1)
@click.option(
    "--run", type=_RunPath(), help="Show the predictions of this run, and of its base: the same without T."
)
@click.option("--most", type=click.IntRange(1), default=30, show_default=True,
              help="Without SENTENCE: sentences of each kind in the list.")  # fmt: skip
@json_option
def inspect(
    lang: str, sentences: tuple[str, ...], overrides: tuple[str, ...], run: Path | None, most: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Show the translation, attention and tags of each SENTENCE, and write a page for it.

    SENTENCE is a place in the corpus such as test:12 (from 1), or the exact tokens separated by spaces.
    Without any, writes a page that lists the sentences of dev and test that T mends, breaks or changes.
    Predictions are those of the run with T that is best on dev, and of its base (the same without T), unless
    --run names one of the two.
    """
    from backattn.report.sentence_list import inspect as inspect_sentences

    recipe, data = load(lang, overrides)
    made = inspect_sentences(recipe, data, sentences, run, cache_root(), most)
    answer(made.to_json(), made.to_text(), as_json)


@click.command()
@recipe_options
@json_option
def project(lang: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Project the English tags to the source tokens through A, with no training; score dev and test.

    Needs the stores of `backattn features`.
    """
    from backattn.experiments.projection import project as project_tags

    made = project_tags(*load(lang, overrides))
    answer(made.to_json(), made.to_text(), as_json)


def _run_json(run: Any) -> dict[str, Any]:
    figures = {"dev": run.dev.overall.f1, "test": run.test.overall.f1, "best_epoch": run.best_epoch}
    about = {"seconds": run.seconds, "learnt_nothing": run.learnt_nothing, "signature": run.test.signature}
    return {"folder": str(run.folder), **figures, **about}


def _run_line(run: Any) -> str:
    named = {"F1": run.test.overall, **{name: run.test.group(name) for name in run.test.groups}}
    figures = ", ".join(f"{name} {100 * counts.f1:.2f}" for name, counts in named.items())
    return (
        f"{run.inputs}, {run.sentences} sentences, seed {run.seed}: test {figures} "
        f"(dev {100 * run.dev.overall.f1:.2f}, epoch {run.best_epoch}, {run.seconds:.0f} s; "
        f"{printable(str(run.folder))})\n"
        + (f"  {run.failure}\n" if run.failure else "")
        + f"  signature (what the score depends on): {printable(run.test.signature)}"
    )
