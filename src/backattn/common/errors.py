"""Errors that a user can mend, with a subclass for each kind of remedy.

The command line prints the message of a :class:`BackattnError` as one line and exits with its
``exit_status``; any other exception is a defect and keeps its traceback.
"""

import errno

from backattn.common.safe_text import one_line

_ENVIRONMENT_ERRNOS = {
    errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE,
}  # fmt: skip
_NO_MEMORY = (
    "allocate memory", "out of memory", "start new thread", "create a primitive", "execute a primitive",
)  # fmt: skip


class BackattnError(Exception):
    """Base of errors that a user can mend. The message is one line that says what to do."""

    exit_status = 2

    def __init__(self, message: str) -> None:
        # A file or path may have brought line feeds, terminal escapes or megabytes into it.
        super().__init__(one_line(message))


class CorpusError(BackattnError):
    """The data is wrong: names the file, the line, what was found and what was expected."""


class RecipeError(BackattnError):
    """The recipe, or an option that overrides it, is wrong: names the file and the key."""


class MissingError(BackattnError):
    """A file or model is missing: names it, and the command or place to get it."""


class NotFetchedError(MissingError):
    """A model of a hub is not on this machine yet: names the command that fetches it."""


class ModelError(BackattnError):
    """A model cannot be used or trusted, or gives unusable numbers: names the file or sentence."""


class StoreError(BackattnError):
    """A store is corrupt, not ours or of another version: names the file and how to rebuild it."""


class UnreadableError(StoreError):
    """A store cannot be read now, for lack of permission or memory; it may be intact."""


class StaleError(BackattnError):
    """A store does not match the corpus or the recipe: names the command that updates it."""

    exit_status = 1


class BusyError(BackattnError):
    """Another running process holds a lock: names the process."""


def out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out: Python's own, or a message of torch or oneDNN."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY)


def write_refused(error: Exception) -> bool:
    """Return whether torch could not write a file: its error names neither the file nor the disk's answer."""
    text = str(error)
    return isinstance(error, RuntimeError) and (
        any(words in text for words in ("PytorchStreamWriter", "iostream error"))
        or ("inline_container" in text and "PytorchStreamReader" not in text)
    )


def is_environment_error(error: Exception) -> bool:
    """Return whether an error comes from the environment, not from the file: memory, permissions, open files.

    The file must then not be treated as damaged, and removed.
    """
    return out_of_memory(error) or (isinstance(error, OSError) and error.errno in _ENVIRONMENT_ERRNOS)
