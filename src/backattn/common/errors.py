"""One base error, and a subclass for each party who must act.

The command line prints the message of a :class:`BackattnError` as one line and exits with its
``exit_status``; any other exception is a defect and keeps its traceback.
"""

import errno

from backattn.common.safe_text import one_line

_OF_THE_MACHINE = {
    errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE,
}  # fmt: skip
_NO_MEMORY = (
    "allocate memory", "out of memory", "start new thread", "create a primitive", "execute a primitive",
)  # fmt: skip


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


class UnreadableError(StoreError):
    """The machine does not let us read a store now: no right to, no memory. It may well be whole."""


class StaleError(BackattnError):
    """A store is older than the corpus or the recipe: names the command that brings it up to date."""

    exit_status = 1


class BusyError(BackattnError):
    """Another live process holds the lock: names it."""


def out_of_memory(error: Exception) -> bool:
    """Python's own, the system's, or one of torch's, which says so in words (oneDNN: in a riddle)."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY)


def is_environment_error(error: Exception) -> bool:
    """Whether an error says nothing about the file that it met: no memory, no right, too many open files.

    Nobody must take the file for damaged then, and remove it.
    """
    return out_of_memory(error) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)
