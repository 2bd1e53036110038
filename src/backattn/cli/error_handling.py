"""Report a user's mistake as one line on standard error and an exit status, never as a traceback.

All output of a command, of click and of other packages is made printable (:mod:`~backattn.common.safe_text`).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

import click

from backattn.common.errors import BackattnError, out_of_memory, write_refused
from backattn.common.safe_text import one_line, printable_output

# Exit status of a tool whose reader has gone (`| head`): the shell's for the signal SIGPIPE.
_SIGPIPE = 128 + 13
# Finished shards, epochs and runs are kept.
_RESUME = "run the same command again: it goes on from what is finished"
_LESS_MEMORY = (
    "set batch_tokens (of translator, english or the embeddings) or tagger.batch lower (--set KEY=VALUE)"
)
_REFUSED = "a file could not be written (a full disk, or a limit on its size); mend that"


class ErrorHandlingGroup(click.Group):
    """A group of commands that reports errors which a user can mend as one line with an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print errors that the user can mend as one line."""
        try:
            with _usage_on_one_line():
                return super().invoke(ctx)
        except BackattnError as error:
            _print_error(str(error))
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            _stop()
        except BrokenPipeError:  # click would end with status 1
            _end_for_pipe()
        except (MemoryError, RuntimeError, OSError) as error:
            if out_of_memory(error):
                _print_error(f"out of memory; {_LESS_MEMORY}, then {_RESUME}")
            elif write_refused(error):
                _print_error(f"{_REFUSED}, then {_RESUME}")
            else:
                raise
            ctx.exit(2)

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        """Parse the command line; Ctrl-C may come as early as here."""
        try:
            with _usage_on_one_line():
                return super().make_context(*arguments, **named)
        except KeyboardInterrupt:
            _stop()
        except BrokenPipeError:  # of a help text
            _end_for_pipe()

    def main(self, *arguments: Any, standalone_mode: bool = True, **named: Any) -> Any:
        """Run the command line with printable output, help texts included."""
        if os.environ.get("_BACKATTN_COMPLETE"):  # click writes the completion scripts of shells as bytes
            return super().main(*arguments, **named)
        with printable_output():
            named["standalone_mode"] = False
            if not standalone_mode:
                return super().main(*arguments, **named)
            sys.exit(self._status(*arguments, **named))

    def _status(self, *arguments: Any, **named: Any) -> int:
        """Run the command line; return its exit status.

        Click itself would end with "Aborted!" and status 1 where Ctrl-C comes between its own lines.
        """
        try:
            try:
                status: int | None = super().main(*arguments, **named)
            except click.ClickException as error:
                error.show()
                status = error.exit_code
            finally:
                sys.stdout.flush()  # a failure on exit, instead of here, would print a traceback
            return status or 0
        except (KeyboardInterrupt, click.Abort):
            _stop()
        except BrokenPipeError:
            _end_for_pipe()
        except OSError as error:  # of the environment, not of the input: a full disk, a folder without rights
            _print_error(
                f"{error.filename or 'output'}: {error.strerror or error}; mend that, then {_RESUME}"
            )
            if not error.filename:
                _drop(sys.stdout)
            sys.exit(2)


@contextmanager
def _usage_on_one_line() -> Iterator[None]:
    """Shorten click's message on a wrong command line, which quotes it with its line feeds, to one line."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise click.UsageError(one_line(error.format_message()), error.ctx) from None


def _drop(stream: TextIO) -> None:
    """Discard what a stream still holds: Python would write it on exit, fail, and exit with status 120."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end_for_pipe() -> NoReturn:
    _drop(sys.stdout)
    sys.exit(_SIGPIPE)


def _stop() -> NoReturn:
    _print_error(f"stopped; {_RESUME}")
    sys.exit(130)


def _print_error(message: str) -> None:
    try:
        click.echo(f"backattn: {message}", err=True)
    except OSError:  # standard error is full or closed; the exit status remains
        _drop(sys.stderr)
