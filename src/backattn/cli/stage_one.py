"""Commands of stage one: compute, check, describe and clean up the feature stores."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backattn.cli.options import (
    answer,
    device_option,
    engine_options,
    json_option,
    load,
    only_option,
    plain,
    recipe_options,
    say_next,
    tell_disagreements,
    trust_options,
    with_overrides,
)
from backattn.common.errors import MissingError
from backattn.common.safe_text import data_output, printable
from backattn.corpus import first_sentences
from backattn.corpus.formats import read_corpus
from backattn.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from backattn.features.plan import Plan

# What the counts of a store mean.
_COUNTS = {
    "empty": "no translation, T = 0",
    "segmented": "translated in parts, too long for the translator",
    "limited": "cut off at the length limit",
}


@click.command()
@recipe_options
@only_option
@click.option(
    "--dry-run", is_flag=True, help="Only print what would be computed, and how long it would take."
)
@device_option
@engine_options
@click.option("--online", is_flag=True, help="Fetch the hubs' newest models, even where older ones are here.")
@click.option(
    "--sentences", type=click.IntRange(1), metavar="N",
    help="Only the first N sentences of each split: a trial. A later run adds the others to the stores.",
)  # fmt: skip
@trust_options
@json_option
def features(
    lang: str, overrides: tuple[str, ...], part: Any, dry_run: bool, device: str, online: bool,
    sentences: int | None, trust: bool, trusted: frozenset[str], as_json: bool, **engine: Any,
) -> None:  # fmt: skip
    """Stage one: translate the corpus, tag the translations, cache T = A R, and compute embeddings.

    Computes only the sentences that the stores of the recipe lack. A killed run goes on. Models of hubs are
    fetched where they are not on this machine.
    """
    from backattn.features.check import check as check_plan
    from backattn.features.check import new_identities, refuse_corrupt
    from backattn.features.engine_options import EngineOptions
    from backattn.features.estimate import estimate
    from backattn.features.fetching import fetch_models
    from backattn.features.plan import make_plan
    from backattn.models.model_digests import absent_parts
    from backattn.models.vouchers import vouchers_of_recipe

    options = EngineOptions(**engine)
    options.check()
    recipe = load_recipe(lang, overrides)
    tell_disagreements(recipe)
    with _naming_missing_data(recipe, dry_run):
        data = read_corpus(recipe.corpus)
    vouchers = vouchers_of_recipe(lang, recipe, trust=trust, named=trusted)
    plan = make_plan(recipe, first_sentences(data, sentences) if sentences else data, part)
    if not dry_run:
        fetch_models(recipe, part, vouchers=vouchers, newest=online)
    with _naming_missing_data(recipe, dry_run):
        statuses = check_plan(plan)
    refuse_corrupt(statuses)
    if dry_run or all(status.state == "fresh" for status in statuses):
        times = estimate(plan, statuses, device)
        absent = absent_parts(recipe) if dry_run and part != "embeddings" else []
        lines = [*(time.to_text() for time in times), *(f"missing: {line}" for line in absent)]
        text = "\n".join([_status_lines(lang, statuses), *map(printable, lines)])
        value = {"stages": plain(statuses), "estimates": plain(tuple(times)), "missing": absent}
        answer(value, text, as_json)
        if statuses and not dry_run and not as_json:
            _say_next(make_plan(recipe, data, part) if sentences else None, lang, overrides, device)
        return
    from backattn.features.computing import open_computing
    from backattn.features.pipeline import collect_features, make_features

    for line in new_identities(plan):
        click.echo(printable(line), err=True)
    waiting: list[str] = []
    if options.collect:
        made = collect_features(plan).stores
    else:
        with open_computing(options, device) as (computing, chosen):
            found = make_features(recipe, plan, device=chosen, vouchers=vouchers, computing=computing)
        made = found.stores
        waiting = list(waiting_lines(lang, made))
        for line in waiting:
            click.echo(printable(line), err=True)
    answer(
        {name: plain(built) for name, built in made.items()},
        "\n".join(map(_built_line, made.values())),
        as_json,
    )
    if as_json or waiting:
        return
    if options.shard:
        say_next(f"after the other shares: backattn features {with_overrides(lang, overrides)} --collect")
    else:
        _say_next(make_plan(recipe, data, part) if sentences else None, lang, overrides, device)


def _say_next(plan: "Plan | None", lang: str, overrides: tuple[str, ...], device: str) -> None:
    """Print the command after `features`: the same for the rest of the corpus, with its time, or `train`.

    :param plan: the plan of the whole corpus after a trial; None where the run was no trial.
    """
    from backattn.features.check import check as check_plan
    from backattn.features.estimate import estimate

    statuses = check_plan(plan) if plan else ()
    options = with_overrides(lang, overrides)
    if plan is None or all(status.state == "fresh" for status in statuses):
        say_next(f"backattn train {options}")
        return
    for time in estimate(plan, statuses, device):
        click.echo(printable(f"the rest: {time.to_text()}"), err=True)
    only = "" if plan.part == "all" else f" --only {plan.part}"
    say_next(f"backattn features {options}{only} (the whole corpus)")


@click.command()
@recipe_options
@only_option
@click.option("--deep", is_flag=True, help="Read and verify every byte.")
@click.option("--online", is_flag=True, help="Ask the hubs whether they have newer models.")
@json_option
@click.pass_context
def check(
    ctx: click.Context, lang: str, overrides: tuple[str, ...], part: Any, deep: bool, online: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Compare the cache with the corpus and the recipe.

    Exit status: 0 fresh; 1 stale or missing; 2 corrupt, or the recipe, the corpus or a model is missing.
    """
    from backattn.features.check import check as check_plan
    from backattn.features.fetching import hub_news
    from backattn.features.plan import make_plan

    recipe, data = load(lang, overrides)
    tell_disagreements(recipe)
    statuses = check_plan(make_plan(recipe, data, part), deep=deep)
    answer(plain(statuses), _status_lines(lang, statuses), as_json)
    for line in hub_news(recipe, part) if online else ():
        click.echo(printable(line), err=as_json)
    ctx.exit(max((status.exit_status for status in statuses), default=0))


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@json_option
def show(store: Path, as_json: bool) -> None:
    """Show where a STORE comes from: corpora, models, recipe, versions, device, date and commit."""
    from backattn.common.atomic_files import is_file
    from backattn.store.provenance import to_json, to_text
    from backattn.store.reader import StoreReader

    if store.suffix != ".h5" or not is_file(store):
        found = "not a store" if store.exists() else "no such file"
        raise MissingError(
            f"{store}: {found}; stores are the files cache/LANG/translation/*.h5, "
            "cache/LANG/transfer/*.h5 and cache/LANG/embeddings/NAME/*.h5"
        )
    reader = StoreReader(store)
    answer(to_json(reader), to_text(reader), as_json)


@click.command()
@recipe_options
def pairs(lang: str, overrides: tuple[str, ...]) -> None:
    """Print each sentence and its translation as `words ||| words`, the input of word aligners.

    The links of an aligner can replace A: transfer.attention = "links", with the files in transfer.links.
    """
    from backattn.features.plan import make_plan
    from backattn.features.word_alignment_io import translated_pairs

    out = data_output()
    out.writelines(f"{line}\n" for line in translated_pairs(make_plan(*load(lang, overrides), "transfer")))
    out.flush()


@click.command()
@recipe_options
@only_option
@click.option("--others", is_flag=True, help="Remove the stores of other recipes of this LANG as well.")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@json_option
def gc(lang: str, overrides: tuple[str, ...], part: Any, others: bool, dry_run: bool, as_json: bool) -> None:
    """Delete what LANG no longer needs: leftovers of killed runs, sentences that left the corpus.

    Links and files that backattn did not make are left alone, and named.
    """
    from backattn.features.gc import collect_garbage
    from backattn.features.plan import make_plan

    recipe, data = load(lang, overrides)
    found = collect_garbage(make_plan(recipe, data, part), others=others, dry_run=dry_run)
    lines = [
        f"{printable(item.path)}: "
        f"{'left alone' if item.left else f'{item.bytes / 1e6:.1f} MB'}, {item.reason}"
        for item in found
    ]
    total = f"{sum(item.bytes for item in found) / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}"
    answer(
        plain(tuple(found)),
        "\n".join([*lines, total if any(not item.left for item in found) else "nothing to free"]),
        as_json,
    )


def waiting_lines(lang: str, made: Mapping[str, Any]) -> Iterator[str]:
    """One line for each store whose shards wait for translations that other commands compute."""
    for name, built in made.items():
        if waiting := built.counts.get("waiting"):
            yield (
                f"backattn: {name}: {waiting} of {built.counts['shards']} shards wait for translations "
                f"of other commands; after these, run `backattn features {lang} --collect`, then this "
                "command again"
            )


def _status_lines(lang: str, statuses: Sequence[Any]) -> str:
    if not statuses:
        return printable(
            f"recipe {lang}: nothing to compute: it names no [english], which T needs, and no "
            f"tagger.embeddings; `backattn train {lang} --inputs words` needs neither"
        )
    return "\n".join(map(_status_line, statuses))


@contextmanager
def _naming_missing_data(recipe: Recipe, dry_run: bool) -> Iterator[None]:
    """In a dry run, when the corpus or a model is missing, also name the files that trainings would lack."""
    try:
        yield
    except MissingError:
        if not dry_run:
            raise
        from backattn.training.training_plan import missing_data, trainings

        for file in missing_data(trainings(recipe)):
            click.echo(printable(f"missing: {file}"), err=True)
        raise


def _status_line(status: Any) -> str:
    line = f"{status.name}: {status.state}; {status.sentences} sentences, {status.missing} to compute"
    if status.extra:
        line += f", {status.extra} no longer in the corpus"
    counted = "".join(f"; {_counted(*item)}" for item in status.counts.items())
    lines = [
        f"{line}{counted} ({status.path or 'its name is not known yet'})",
        *(f"  {reason}" for reason in status.reasons),
    ]
    return "\n".join(map(printable, lines))


def _counted(name: str, count: object) -> str:
    """A count of a store, and what its name means."""
    meaning = _COUNTS.get(name)
    return f"{name}{f' ({meaning})' if meaning else ''}: {count}"


def _built_line(built: Any) -> str:
    counted = ", ".join(_counted(*item) for item in built.counts.items())
    return printable(
        f"{built.path}: {built.sentences} sentences, {built.computed} computed, "
        f"{built.resumed} taken from a stopped run; {counted}"
    )
