"""Decide whether a pickle may be opened, without loading it.

flair's own model files are pickles, which can run code when they are opened. The user vouches for one on the
command line, or by its digest in a recipe of ``pipelines/``. The recipes of the package vouch as well:
anyone who can change one can change the code beside it. Files that can come with a model do not vouch for it,
neither a run's ``recipe.json`` nor a recipe elsewhere; their digests are still compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backattn.common.errors import ModelError
from backattn.common.safe_text import plain
from backattn.recipe import PACKAGED, PIPELINES, Recipe

_NOT_VOUCHED = (
    f" (a digest in a run's recipe.json, or in a recipe outside of {PIPELINES}/, does not vouch for it)"
)


@dataclass(frozen=True, kw_only=True)
class Vouchers:
    """The pickles that the user vouches for.

    :param trust: any file (``--trust``).
    :param named: sha256 of single files (``--trust-sha256``), in lower case.
    :param pinned: sha256 of the files that a recipe of ``pipelines/`` pins, in lower case; None for a command
        without a recipe that vouches.
    """

    trust: bool = False
    named: frozenset[str] = frozenset()
    pinned: frozenset[str] | None = None

    def require_for_hub(self, name: str, pins: Iterable[str], key: str) -> None:
        """Refuse pickles of a hub before the download, if they could not be opened afterwards.

        :param pins: the digests that they must have; empty for any.
        :param key: the recipe's key for these digests, for messages.
        :raises ModelError: no one vouches for them.
        """
        digests = [pin.lower() for pin in pins]
        known = self.named | (self.pinned or frozenset())
        if self.trust or (known.issuperset(digests) if digests else known):
            return
        options = " ".join(f"--trust-sha256 {digest}" for digest in digests or ("HEX",))
        pin = f"pin its digest as {key} in a recipe of {PIPELINES}/, or " if self.pinned is not None else ""
        raise ModelError(
            f"{name}: a flair file is a pickle and can run code{_NOT_VOUCHED if digests else ''}; {pin}pass "
            f"{options}, or --trust"
        )

    def opened(self, name: str, sha256: str, pin: str, *, convertible: bool = False) -> str:
        """Require that someone vouches for the bytes of a pickle; return who, in words, for the provenance.

        :param sha256: of the bytes that are opened.
        :param pin: the digest that was required and compared; empty for none.
        :param convertible: ``name`` is the path of an English tagger, which can be converted to safetensors.
        :raises ModelError: no one vouches for them.
        """
        if sha256 in (self.pinned or ()):
            return "pickle, digest pinned in the recipe"
        if sha256 in self.named:
            return "pickle, --trust-sha256"
        if self.trust:
            return "pickle, --trust"
        options = [f"pass --trust-sha256 {sha256}, or --trust"]
        if self.pinned is not None:
            keys = "english.sha256, embeddings.charlm.sha256"
            options.insert(0, f"pin its sha256 in a recipe of {PIPELINES}/ ({keys})")
            if convertible:
                command = f"backattn english convert {name} NEW.safetensors --sha256 {sha256}"
                options.insert(0, f"make it a safetensors file once (`{command}`)")
        raise ModelError(
            f"{name}: a flair file is a pickle and can run code{_NOT_VOUCHED if pin else ''}; if you know "
            f"where it comes from, {', or '.join(options)}"
        )


# The default of functions that may open pickles.
NOBODY = Vouchers()


def vouchers_of_recipe(lang: str, recipe: Recipe, *, trust: bool, named: Iterable[str]) -> Vouchers:
    """Vouchers of the command line, and of the recipe's digests if it is of ``pipelines/`` or the package.

    :param lang: the recipe's name, or its path; one elsewhere may come from anyone.
    """
    homes = PIPELINES.resolve(), PACKAGED.resolve()
    own = not lang.endswith(".toml") or Path(lang).parent.resolve() in homes
    charlm = recipe.embeddings.charlm
    english = recipe.english
    pins = [*([english.sha256] if english else ()), *(charlm.sha256 if charlm else ())] if own else []
    return Vouchers(trust=trust, named=frozenset(named), pinned=frozenset(pin.lower() for pin in pins if pin))


def check_digest(name: str, sha256: str, pin: str) -> None:
    """Require the digest that a recipe pins.

    :param sha256: of the bytes that are opened, so that the file cannot be changed in between.
    :param pin: the expected digest; empty for any.
    :raises ModelError: they differ.
    """
    if pin and sha256 != pin.lower():
        raise ModelError(
            f"{name}: sha256 is {sha256}, expected {plain(pin)}; the file was changed: make or fetch it "
            "again, or pin the new digest if you know where it comes from"
        )
