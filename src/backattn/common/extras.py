"""The extras of the installation: which packages each brings, and what to type where one is missing."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Literal

from backattn.common.errors import MissingError

Extra = Literal["transformers", "flair", "fairseq", "vectors", "ray"]

# The packages that our code imports for an extra; pip installs what they need themselves.
PACKAGES: dict[Extra, tuple[str, ...]] = {
    "transformers": ("transformers", "huggingface_hub", "sentencepiece"),
    "flair": ("flair",),
    "fairseq": ("fairseq", "sacrebleu", "sentencepiece"),
    "vectors": ("gensim",),
    "ray": ("ray",),
}
# fairseq compiles against the torch and numpy that are there: its own build environment would fetch a second
# torch of several GB.
_TOOLS = 'pip install cython "setuptools<81" wheel setuptools-scm && pip install --no-build-isolation'


def require_extras(what: str, extras: Iterable[Extra | None]) -> None:
    """Refuse work whose packages are not installed, before hours of other work; imports none of them.

    :param what: what needs them, as the beginning of a message: "the translator".
    :param extras: extras that bring its packages; None for work that needs none.
    :raises MissingError: names a package that is missing, and the line that installs the extras.
    """
    absent: dict[Extra, str] = {}
    for extra in (one for one in extras if one):
        for name in PACKAGES[extra]:
            if find_spec(name) is None:
                absent.setdefault(extra, name)
    if absent:
        install = _TOOLS if "fairseq" in absent else "pip install"
        raise MissingError(
            f"{what}: not installed here: {' and '.join(dict.fromkeys(absent.values()))}; type: "
            f"{install} 'backattn[{','.join(absent)}]'"
        )
