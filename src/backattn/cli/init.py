"""The command that writes a recipe for the user's own files."""

from pathlib import Path

import click

from backattn.cli.options import answer, json_option, say_next
from backattn.common.safe_text import printable, quoted
from backattn.recipe import Recipe


def _percents(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    if value is None:
        return ()
    parts = value.split(",")
    if len(parts) == 3 and all(part.strip().isdecimal() and len(part) < 4 for part in parts):
        found = tuple(map(int, parts))
        if min(found) > 0 and sum(found) == 100:
            return found
    raise click.BadParameter(f"{quoted(value)}: expected three percentages of sum 100, as in 80,10,10")


@click.command()
@click.argument("name")
@click.argument("files", metavar="TRAIN [DEV TEST]", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--source", default="", metavar="XX", help="Language code of the text, as in de or zh.")
@click.option(
    "--split", "percents", callback=_percents, metavar="80,10,10",
    help="Split TRAIN into train, dev and test, by whole sentences or documents; written below data/NAME.",
)  # fmt: skip
@click.option("--online", is_flag=True, help="Take a public translator and English tagger from the hubs.")
@click.option(
    "--replace", is_flag=True, help="Write over a recipe of this name, and over the files of a split."
)
@json_option
def init(
    name: str, files: tuple[Path, ...], source: str, percents: tuple[int, ...], online: bool, replace: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Look at your files and write pipelines/NAME.toml, the recipe of a corpus.

    Finds columns, separator, tag scheme, comments, encoding and unit, and shows them with a sentence. The
    way to English is a public model (--online), else what the package has for the language of --source: its
    own translator or a dictionary. Else, and without --source, the words are copied.
    """
    from backattn.common.extras import require_extras
    from backattn.new_recipe import write_recipe

    if online:
        require_extras("a public translator", ["transformers"])
    made = write_recipe(name, files, source=source, percents=percents, online=online, replace=replace)
    answer(made.to_json(), made.to_text(), as_json)
    if not as_json:
        _say_next(made.recipe)


def _say_next(recipe: Recipe) -> None:
    """Print the next command that can run here, and what is missing for the better ones."""
    from backattn.common.errors import NotFetchedError
    from backattn.models.model_digests import missing_models
    from backattn.training.training_plan import missing_data, trainings, untrained

    name, missing = recipe.name, missing_models(recipe)
    words = f"backattn train {name} --inputs words --seeds 1"
    if all(isinstance(error, NotFetchedError) for error in missing.values()):
        say_next(f"backattn features {name} --sentences 100 (a trial; then all), or without models: {words}")
        return
    found = trainings(recipe)
    lacking = [*untrained(recipe, found), *missing_data(found)]
    if not lacking:
        say_next(f"backattn models {name}, or without models: {words}")
        return
    click.echo(
        printable(
            f"missing for the models: {lacking[0]}"
            + (f"; and {len(lacking) - 1} more" if len(lacking) > 1 else "")
            + f" (`backattn models {name} --dry-run` lists what is missing; or take public models: --online)"
        ),
        err=True,
    )
    say_next(f"{words} (needs no model)")
