"""Stage one: compute the features of a corpus with the expensive models, once, and store them.

``backattn.features(...)`` is :func:`backattn.features.new_text.features`.
"""

import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """This package as a function: its import sets ``backattn.features``, whatever stood there before."""

    def __call__(
        self,
        source: str,
        sentences: Sequence[Sequence[str]],
        *,
        device: str = "auto",
        trust: bool = False,
        trust_sha256: Iterable[str] = (),
    ) -> list[Any]:
        """T of tokenised sentences: see :func:`backattn.features.new_text.features`."""
        from backattn.features.new_text import features

        return features(source, sentences, device=device, trust=trust, trust_sha256=trust_sha256)


sys.modules[__name__].__class__ = _CallablePackage
