"""Commands that train, convert and measure the models of stage one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backattn.cli.options import (
    answer,
    device_option,
    json_option,
    recipe_options,
    replace_option,
    say_next,
    set_option,
    tell_disagreements,
    threads_option,
    with_overrides,
)
from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError, RecipeError
from backattn.common.extras import require_extras
from backattn.common.safe_text import printable
from backattn.recipe import PACKAGED, PIPELINES, load_english, load_recipe, model_path, recipe_name

if TYPE_CHECKING:
    from backattn.training.training_plan import Training

_SOURCES = "DATA.md"  # where the data files of our recipes come from; beside the recipes
_MOST_SHOWN = 3  # missing files that one line names


@click.command()
@recipe_options
@click.option("--dry-run", is_flag=True, help="Only print which models exist, and which files are missing.")
@replace_option
@click.option("--others", is_flag=True, help="Apply --replace to models that other recipes describe as well.")
@threads_option
@json_option
def models(
    lang: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    replace: bool,
    others: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train all models that stage one of LANG needs and that a recipe describes.

    These are the translator (after its parent, whose weights initialise it), the English tagger and,
    where tagger.embeddings names them, character language models and fastText vectors. Existing models are
    kept.
    """
    from backattn.training.training_plan import missing_data, trainings, untrained

    recipe = load_recipe(lang, overrides)
    tell_disagreements(recipe)
    found = trainings(recipe, replace=replace)
    missing = [*untrained(recipe, found), *missing_data(found)]
    if not dry_run:  # before hours of training
        begun = [one for one in found if one.begins(replace=replace, others=others)]
        require_extras("training", (one.extra for one in begun))
        if missing:
            shown = [str(error) for error in missing[:_MOST_SHOWN]]
            if more := len(missing) - len(shown):
                shown.append(f"and {more} more; `backattn models {lang} --dry-run` lists them")
            raise MissingError("; ".join(shown))
    answers = []
    try:
        for training in found:
            state, wanted = training.state(), training.begins(replace=replace, others=others)
            replaced = replace and (training.own or others)
            made = training.run(threads, replaced) if wanted and not dry_run else None
            about = {"kind": training.kind, "recipe": training.lang, "folder": str(training.folder)}
            answers.append({**about, "state": state, "report": made and made.to_json()})
            if not as_json:
                result = f"\n{made.to_text()}" if made else f" {state}"
                click.echo(printable(f"{training.kind} of {training.lang} ({training.folder}):") + result)
    finally:
        if as_json:
            answer(answers, "", as_json)
    if not as_json:
        for error in missing:
            click.echo(f"missing: {error}")
        for line in _sources(found):
            click.echo(printable(line))
        if not found and not missing:
            click.echo("nothing to train: the models are there, or come from a hub")
        if not dry_run:
            say_next(f"backattn features {with_overrides(lang, overrides)}")


def _sources(found: Sequence["Training"]) -> Iterator[str]:
    """Yield lines that say where missing training files come from, and which one is enough to begin with."""
    from backattn.training.training_plan import missing_data

    lacking = [training.kind for training in found if missing_data([training])]
    if lacking:
        own = PIPELINES / _SOURCES
        yield f"where each file comes from: {own if is_file(own) else PACKAGED / _SOURCES}"
    if "English tagger" in lacking:
        yield (
            "one column file of English is enough to begin with (WikiGold, or your own): backattn english "
            'train --set \'english.training.files=[{path = "FILE", use = "split"}]\''
        )


@click.group()
def translator() -> None:
    """Train the translator of a recipe."""


@translator.command("train")
@recipe_options
@replace_option
@threads_option
@json_option
def translator_train(
    lang: str, overrides: tuple[str, ...], replace: bool, threads: int | None, as_json: bool
) -> None:
    """Train the fairseq translator that the recipe describes. A killed training goes on."""
    require_extras("the translator's training", ["fairseq"])
    from backattn.training.translator.train import train_translator

    recipe = load_recipe(lang, overrides)
    folder = model_path(recipe.own_translator[0].checkpoint)
    made = train_translator(recipe, folder=folder, threads=threads, replace=replace, progress=True)
    answer(made.to_json(), made.to_text(), as_json)


@click.group()
def charlm() -> None:
    """Train the character language models of a recipe."""


@charlm.command("train")
@recipe_options
@replace_option
@threads_option
@json_option
def charlm_train(
    lang: str, overrides: tuple[str, ...], replace: bool, threads: int | None, as_json: bool
) -> None:
    """Train the character language models that the recipe describes, in both directions, with flair."""
    require_extras("the training of character language models", ["flair"])
    from backattn.training.charlm.train import train_charlm

    recipe = load_recipe(lang, overrides)
    folder = model_path(recipe.embeddings.charlm.checkpoint if recipe.embeddings.charlm else "")
    made = train_charlm(recipe, folder=folder, threads=threads, replace=replace, progress=True)
    answer(made.to_json(), made.to_text(), as_json)


@click.group()
def vectors() -> None:
    """Train the fastText vectors of a recipe."""


@vectors.command("train")
@recipe_options
@replace_option
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="Threads. More than one are faster, but do not give the same vectors again.")  # fmt: skip
@json_option
def vectors_train(lang: str, overrides: tuple[str, ...], replace: bool, threads: int, as_json: bool) -> None:
    """Train the fastText vectors that the recipe describes, with gensim. A killed training goes on.

    The text is the corpus' training sentences, the foreign sides of the translator's pairs, and the files
    that the recipe lists.
    """
    require_extras("the training of fastText vectors", ["vectors"])
    from backattn.training.vectors.train import train_vectors

    recipe = load_recipe(lang, overrides)
    folder = model_path(recipe.embeddings.fasttext.checkpoint if recipe.embeddings.fasttext else "")
    made = train_vectors(recipe, folder=folder, threads=threads, replace=replace, progress=True)
    answer(made.to_json(), made.to_text(), as_json)


@click.group()
def english() -> None:
    """Train or convert an English tagger."""


@english.command("train")
@click.argument("lang", default="english")
@set_option
@replace_option
@threads_option
@json_option
def english_train(
    lang: str, overrides: tuple[str, ...], replace: bool, threads: int | None, as_json: bool
) -> None:
    """Train the English tagger that pipelines/english.toml (or the recipe LANG) describes, with flair."""
    recipe = load_english(lang, overrides)
    require_extras("the English tagger's training", ["flair"])
    from backattn.training.english.train import train_english

    folder = model_path(recipe.checkpoint).parent
    made = train_english(
        recipe,
        lang=recipe_name(lang),
        folder=folder,
        threads=threads,
        replace=replace,
        progress=True,
    )
    answer(made.to_json(), made.to_text(), as_json)


@english.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--sha256", default="", metavar="HEX", help="sha256 that SOURCE must have.")
@click.option("--trust", is_flag=True, help="Open SOURCE whatever its sha256. It can run code.")
@json_option
def english_convert(source: Path, target: Path, sha256: str, trust: bool, as_json: bool) -> None:
    """Convert the flair file SOURCE (a pickle) to the safetensors file TARGET, which cannot run code.

    SOURCE is opened once; TARGET is written if both give the same states and tags.
    """
    require_extras("a flair file", ["flair"])
    from backattn.training.english.convert import convert_tagger

    made = convert_tagger(source, target, sha256=sha256, trust=trust)
    answer(made.to_json(), made.to_text(), as_json)


@click.command()
@recipe_options
@device_option
@json_option
def align(lang: str, overrides: tuple[str, ...], device: str, as_json: bool) -> None:
    """Measure the alignment error rate of A on gold alignments, and that of the diagonal."""
    from backattn.common.device import pick_device
    from backattn.experiments.alignment import keep_alignment, measure_alignment
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
    keep_alignment(made, recipe)
    answer(made.to_json(), made.to_text(), as_json)
