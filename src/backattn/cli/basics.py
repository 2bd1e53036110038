"""Commands that list recipes and keys, print corpus statistics, and run the demo."""

from dataclasses import asdict

import click

from backattn.cli.options import answer, json_option, recipe_options, threads_option
from backattn.common.extras import require_extras
from backattn.common.safe_text import printable
from backattn.corpus.formats import read_corpus
from backattn.recipe import PACKAGED, PIPELINES, cache_root, known_recipes, load_recipe
from backattn.recipe.keys import recipe_keys


@click.command()
@json_option
def recipes(as_json: bool) -> None:
    """List the recipes: those of pipelines/ in the current folder, then the package's own.

    A name alone means the recipe of pipelines/ where both have it.
    """
    found = known_recipes()
    widest = max((len(printable(recipe.name)) for recipe in found), default=0)
    lines = []
    for home, title in ((PIPELINES, f"{PIPELINES}/"), (PACKAGED, f"of the package, {PACKAGED}")):
        here = [recipe for recipe in found if recipe.path.parent == home]
        lines += [f"{title}:"] if here else []
        lines += [f"  {printable(one.name):{widest}}  {printable(one.about)}".rstrip() for one in here]
    value = {one.name: {"path": str(one.path), "about": one.about} for one in found}
    answer(value, "\n".join(lines), as_json)


@click.command()
@click.argument("table", default="")
@json_option
def keys(table: str, as_json: bool) -> None:
    """Explain every key of a recipe, or only those of TABLE (tagger, translator.training)."""
    found = recipe_keys(table)
    answer({key.name: asdict(key) for key in found}, "\n".join(key.to_text() for key in found), as_json)


@click.command()
@recipe_options
@json_option
def corpus(lang: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print the statistics of a data set (the paper's Table 1), an example, and what is unusual."""
    from backattn.corpus.statistics import corpus_statistics

    statistics = corpus_statistics(read_corpus(load_recipe(lang, overrides).corpus))
    answer(statistics.to_json(), statistics.to_text(), as_json)


@click.command()
def sample() -> None:
    """Write the corpora of the embedded sample to cache/sample/data."""
    from backattn.demo.sample import write_sample

    folder = cache_root() / "sample" / "data"
    write_sample(folder)
    click.echo(f"{printable(str(folder))}: wrote the corpora of the sample; next: backattn models sample")


@click.command()
@threads_option
def demo(threads: int | None) -> None:
    """Run both stages on the embedded sample, with models trained for it; a few minutes on two cores."""
    without = "without these packages, `backattn sample` and `backattn train sample --inputs words` still run"
    require_extras(f"the demo trains models ({without})", ["flair", "fairseq"])
    from backattn.demo.run import run_demo

    run_demo(threads=threads, say=lambda line: click.echo(line))
