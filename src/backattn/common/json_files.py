"""Read the JSON files of the project, which may be damaged or hostile."""

import json
from pathlib import Path
from typing import Any

from backattn.common.atomic_files import is_file
from backattn.common.errors import MissingError, ModelError, is_environment_error
from backattn.common.regular_files import open_regular
from backattn.common.safe_text import shortened

# The largest that this project writes holds the scores of a run, sentence by sentence: some megabytes. A file
# of empty lists takes twenty-five times its size once it is parsed.
_LARGEST = 1 << 26


def read_table(path: Path, advice: str) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    :param advice: what to do if it is missing or damaged, for the message.
    :raises MissingError: there is no such file.
    :raises ModelError: it is damaged.
    """
    if not is_file(path):
        raise MissingError(f"{path}: missing; {advice}")
    try:
        value = parse(read_json_text(path))
        if not isinstance(value, dict):
            raise ValueError("not a table")
    except (ValueError, OSError) as error:
        if is_environment_error(error):
            raise
        raise ModelError(f"{path}: damaged ({shortened(str(error))}); {advice}") from None
    return value


def read_json_text(path: Path) -> str:
    """Read the text of a JSON file.

    :raises ValueError: it is not UTF-8, or larger than any that this project writes.
    :raises OSError: it is no regular file, or cannot be read.
    """
    with open_regular(path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"larger than {_LARGEST >> 20} MiB")
    return data.decode("utf-8")


def parse(text: str | bytes, **hooks: Any) -> Any:
    """Parse one JSON value.

    :param hooks: of ``json.loads``.
    :raises ValueError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(text, **hooks)
    except RecursionError:
        raise ValueError("nested too deep") from None
