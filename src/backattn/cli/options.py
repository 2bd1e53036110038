"""Options that several commands share, and the printing of answers."""

import json
import re
import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from backattn.common.errors import RecipeError
from backattn.common.safe_text import listed, printable, quoted
from backattn.corpus import Corpus
from backattn.corpus.formats import read_corpus
from backattn.recipe import Recipe, available_recipes, load_recipe
from backattn.recipe.presets import PRESETS, preset_overrides
from backattn.recipe.schema import NAME

_PRESET = "backattn.preset"
_F = TypeVar("_F", bound=Callable[..., Any])


def recipe_options(command: _F) -> _F:
    """Add the argument LANG and the options ``--preset`` and ``--set``."""
    return click.argument("lang", shell_complete=_complete_lang)(preset_option(set_option(command)))


def _complete_lang(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in available_recipes() if name.startswith(incomplete) and NAME.fullmatch(name)]


def trust_options(command: _F) -> _F:
    """Add the options ``--trust`` and ``--trust-sha256`` (as ``trusted``)."""
    return _trust(_trust_sha256(command))


def _digests(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> frozenset[str]:
    for value in values:
        if not re.fullmatch("[0-9a-fA-F]{64}", value):
            raise click.BadParameter(f"{quoted(value)}: expected the 64 hexadecimal digits of a sha256")
    return frozenset(map(str.lower, values))


def _device(ctx: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse a malformed device name before anything is read. Only torch knows whether the device exists."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", value):
        meant = "did you mean cuda? " if "gpu" in value.lower() else ""
        raise RecipeError(f"--device {quoted(value)}: {meant}expected cpu, cuda, cuda:N or auto")
    return value


def _keep_preset(ctx: click.Context, option: click.Parameter, names: tuple[str, ...]) -> None:
    if len(names) > 1:  # click would take the last and say nothing
        raise click.BadParameter(f"found {listed(names)}, expected one; give what differs from it by --set")
    ctx.meta[_PRESET] = preset_overrides(names[0]) if names else ()


def _after_preset(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return (*ctx.meta.get(_PRESET, ()), *values)


# Eager: it is read before --set, whose callback puts the settings of the preset in front.
preset_option = click.option(
    "--preset", type=click.Choice(list(PRESETS)), multiple=True, expose_value=False, is_eager=True,
    callback=_keep_preset,
    help="A fixed list of settings of the recipe, applied before --set. paper: section 3.2 of the paper to "
    "the letter; can: our reading of the abstract of CAN.",
)  # fmt: skip
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", callback=_after_preset,
    help="Replace one value of the recipe, as in tagger.epochs=3. May be repeated.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
device_option = click.option(
    "--device", default="auto", show_default=True, callback=_device, metavar="DEVICE",
    help="cpu, cuda, or auto: a GPU if there is one.",
)  # fmt: skip
_trust = click.option(
    "--trust", is_flag=True,
    help="Open flair models whatever their sha256. They are pickles, which can run code.",
)  # fmt: skip
_trust_sha256 = click.option(
    "--trust-sha256", "trusted", multiple=True, metavar="HEX", callback=_digests,
    help="Open a flair model (a pickle) that has this sha256. May be repeated.",
)  # fmt: skip
only_option = click.option(
    "--only", "part", type=click.Choice(["all", "transfer", "embeddings"]), default="all", show_default=True,
    help="transfer: translations and T; embeddings: frozen embeddings, which need no translator.",
)  # fmt: skip


address_option = click.option(
    "--address", help="HOST:PORT of the Ray cluster; default: one of this machine alone."
)


def engine_options(command: _F) -> _F:
    """Add the options that say where shards are computed, and which of them."""
    for option in reversed(_engine_options):
        command = option(command)
    return command


_engine_options = (
    click.option(
        "--engine", type=click.Choice(["local", "processes", "ray"]),
        help="Who computes: local, this process (the default); processes, several on this machine; ray, the "
        "nodes of a Ray cluster.",
    ),
    click.option("--workers", type=click.IntRange(1),
                 help="Workers of --engine, each with a model of its own; default: one for each GPU."),
    click.option("--threads", type=click.IntRange(1),
                 help="CPU threads of each worker; default: all cores, divided by the workers."),
    address_option,
    click.option("--shard", metavar="i/N",
                 help="Compute the i-th of N shares, and leave the rest to other commands (then --collect)."),
    click.option("--collect", is_flag=True, help="Join what commands with --shard computed."),
)  # fmt: skip
replace_option = click.option(
    "--replace", is_flag=True,
    help="Train anew where a finished model has other settings or data. Stores and runs that were made "
    "with the old model are then out of date.",
)  # fmt: skip
threads_option = click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all cores.")


def load(lang: str, overrides: tuple[str, ...]) -> tuple[Recipe, Corpus]:
    """Load the recipe of LANG and its corpus."""
    recipe = load_recipe(lang, overrides)
    return recipe, read_corpus(recipe.corpus)


def tell_disagreements(recipe: Recipe) -> None:
    """Print on standard error the files of a recipe whose names suggest another language than its source."""
    from backattn.models.source_language import source_disagreements

    for line in source_disagreements(recipe):
        click.echo(printable(f"note: {line}"), err=True)


def answer(value: Any, text: str, as_json: bool) -> None:
    """Print the text, or the value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text)


def say_next(command: str) -> None:
    """Print on standard error which command comes next."""
    click.echo(printable(f"next: {command}"), err=True)


def with_overrides(lang: str, overrides: tuple[str, ...]) -> str:
    """Return LANG, ``--preset`` and ``--set`` as the user would type them in a shell."""
    preset = ""
    for name in PRESETS:  # _after_preset puts the settings of a preset in front of those of --set
        settings = preset_overrides(name)
        if overrides[: len(settings)] == settings:
            preset, overrides = f" --preset {name}", overrides[len(settings) :]
    return shlex.quote(lang) + preset + "".join(f" --set {shlex.quote(override)}" for override in overrides)


def plain(value: Any) -> Any:
    """Convert a dataclass, or a tuple of dataclasses, to plain JSON values."""
    return msgspec.to_builtins(value, enc_hook=str)
