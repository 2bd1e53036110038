"""A user's mistake is one line on standard error and an exit status, never a traceback.

Whatever a command, click or another package writes meanwhile is printable.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from backattn.common.errors import BackattnError, out_of_memory
from backattn.common.safe_text import one_line, printable_output

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


class OneLine(click.Group):
    """A user's mistake is one line on standard error and the error's exit status, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print what the user can mend as one line."""
        try:
            with _usage_on_one_line():
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
                "install backattn[features] as the README says at its beginning"
            )
            ctx.exit(2)

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        """Read the command line; Ctrl-C may come as early as here."""
        try:
            with _usage_on_one_line():
                return super().make_context(*arguments, **named)
        except KeyboardInterrupt:
            _stop()

    def main(self, *arguments: Any, **named: Any) -> Any:
        """Everything, the printing of a help text included."""
        with printable_output():
            return self._main(*arguments, **named)

    def _main(self, *arguments: Any, **named: Any) -> Any:
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


@contextmanager
def _usage_on_one_line() -> Iterator[None]:
    """Click's own message on a wrong command line quotes it, line feeds and all."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise click.UsageError(one_line(error.format_message()), error.ctx) from None


def _stop() -> NoReturn:
    _say(f"stopped; {_GOES_ON}")
    sys.exit(130)


def _say(message: str) -> None:
    with suppress(OSError):  # where nobody can be told, the exit status still says it
        click.echo(f"backattn: {message}", err=True)
