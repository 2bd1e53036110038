"""Write reference.md: commands, Python names and recipe keys, from their docstrings and help texts.

Run it after a change of these: ``python docs/reference.py > docs/reference.md``. A test compares the two.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from itertools import groupby

import click

import backattn
from backattn.cli import main
from backattn.recipe.keys import recipe_keys

_HEAD = """# Reference

Made from docstrings and help texts by `python docs/reference.py > docs/reference.md`; not edited by hand."""


def reference() -> str:
    """Return the whole page."""
    return "\n\n".join([_HEAD, "## Commands", *_commands(main, "backattn"), *_python(), *_keys()]) + "\n"


def _commands(group: click.Group, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        else:
            yield _command(command, f"{path} {name}")


def _command(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    about = re.sub(r"\n{3,}", "\n\n", inspect.cleandoc(command.help or "").replace("\b\n", ""))
    records = [param.get_help_record(context) for param in command.params]
    rows = [f"| `{_cell(left)}` | {_cell(right)} |" for left, right in filter(None, records)]
    table = "\n".join(["| option | meaning |", "|---|---|", *rows])
    return "\n\n".join([f"### {path}", f"`{path} {usage}`", about, *([table] if rows else [])])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _python() -> Iterator[str]:
    yield "## Python"
    for name in backattn.__all__:
        value = getattr(backattn, name)
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        yield f"### backattn.{name}"
        yield _docstring(value)
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(function) and not method.startswith("_"):
                yield f"### backattn.{name}.{method}"
                yield _docstring(function)


def _docstring(value: object) -> str:
    return f"```text\n{inspect.getdoc(value)}\n```"


def _keys() -> Iterator[str]:
    yield "## Recipe keys"
    yield "As `backattn keys` prints them; `[]` follows the name of a list of tables."
    for table, keys in groupby(recipe_keys(), key=lambda key: key.name.split(".")[0]):
        rows = [f"| `{key.name}` | {_cell(key.values)} | {_cell(key.meaning)} |" for key in keys]
        yield "\n".join([f"### {table}", "", "| key | values | meaning |", "|---|---|---|", *rows])


if __name__ == "__main__":
    sys.stdout.write(reference())
