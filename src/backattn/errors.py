"""One base error, and a subclass for each party who must act.

The command line prints the message of a :class:`BackattnError` as one line and exits with its
``exit_status``; any other exception is a defect and keeps its traceback.
"""

from backattn.quoting import one_line


class BackattnError(Exception):
    """Base of everything that a user can mend. The message is one line that says what to do."""

    exit_status = 2

    def __init__(self, message: str) -> None:
        # Whatever a file or a path smuggled into it: line feeds, terminal escapes, megabytes.
        super().__init__(one_line(message))


class CorpusError(BackattnError):
    """The data must change: names the file, the line, what was found and what was expected."""


class RecipeError(BackattnError):
    """The recipe (or an option that overrides it) must change: names the file and the key."""


class MissingError(BackattnError):
    """Something must be fetched or made first: names it, and the command or place that gives it."""


class ModelError(BackattnError):
    """A checkpoint cannot be used, trusted, or gives unusable numbers: names the file or sentence."""


class StoreError(BackattnError):
    """A store is corrupt, foreign or of another version: names the file and what rebuilds it."""


class StaleError(BackattnError):
    """A store is older than the corpus or the recipe: names the command that brings it up to date."""

    exit_status = 1


class BusyError(BackattnError):
    """Another live process holds the lock: names it."""
