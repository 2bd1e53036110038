"""Back Attention (BAN): named entity recognition with what an English tagger knows.

>>> import backattn
>>> tagger = backattn.load("es", best=True)
>>> [(entity.text, entity.type) for entity in tagger.tag("Ana Ruiz vive en Lugo.")]
[('Ana Ruiz', 'PER'), ('Lugo', 'LOC')]

:func:`load` opens a finished run as a :class:`Tagger`, which finds each :class:`Entity` of a text;
:func:`features` computes T. What a user can mend is raised as a :class:`BackattnError`, whose message is one
line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from backattn.common.errors import BackattnError
from backattn.common.version import __version__

if TYPE_CHECKING:
    from backattn.api import Entity, Tagger, load
    from backattn.features.new_text import features

__all__ = ["BackattnError", "Entity", "Tagger", "__version__", "features", "load"]


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used: its modules import torch."""
    if name == "features":  # the package of that name, which can be called
        return import_module("backattn.features")
    if name in __all__:
        return getattr(import_module("backattn.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
