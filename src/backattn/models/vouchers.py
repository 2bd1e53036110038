"""Who vouches for a pickle before it is opened. Loads no model.

flair's own model files are pickles, which can run code when they are opened. The user vouches for one on the
command line, or by its digest in a recipe of ``pipelines/``. What came with a model vouches for nothing:
neither a run's ``recipe.json`` nor a recipe that lies elsewhere; their digests are compared all the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backattn.common.errors import ModelError
from backattn.common.safe_text import plain
from backattn.recipe import PIPELINES, Recipe

_NOT_VOUCHED = (
    f" (a digest in a run's recipe.json, or in a recipe outside of {PIPELINES}/, does not vouch for it)"
)


@dataclass(frozen=True, kw_only=True)
class Vouchers:
    """What the user vouches for.

    :param trust: any file (``--trust``).
    :param named: sha256 of single files (``--trust-sha256``), in lower case.
    :param pinned: sha256 of the files that a recipe of ``pipelines/`` pins, in lower case; None for a command
        in which no recipe vouches.
    """

    trust: bool = False
    named: frozenset[str] = frozenset()
    pinned: frozenset[str] | None = None

    def require_for_hub(self, name: str, pins: Iterable[str], key: str) -> None:
        """Refuse pickles of a hub before they are fetched, where they would not be opened then.

        :param pins: the digests that they must have; none where any will do.
        :param key: of the recipe, which names these digests.
        :raises ModelError: nobody vouches for them.
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
        """Who vouches for the bytes of a pickle: how they are opened, in words, for the provenance.

        :param sha256: of the bytes that are opened.
        :param pin: the digest that they must have, and do; empty for none.
        :param convertible: it is the path of an English tagger, which can be made a file that runs nothing.
        :raises ModelError: nobody does.
        """
        if sha256 in (self.pinned or ()):
            return "pickle, digest pinned in the recipe"
        if sha256 in self.named:
            return "pickle, --trust-sha256"
        if self.trust:
            return "pickle, --trust"
        ways = [f"pass --trust-sha256 {sha256}, or --trust"]
        if self.pinned is not None:
            keys = "english.sha256, embeddings.charlm.sha256"
            ways.insert(0, f"pin its sha256 in a recipe of {PIPELINES}/ ({keys})")
            if convertible:
                command = f"backattn english convert {name} NEW.safetensors --sha256 {sha256}"
                ways.insert(0, f"make it a safetensors file once (`{command}`)")
        raise ModelError(
            f"{name}: a flair file is a pickle and can run code{_NOT_VOUCHED if pin else ''}; if you know "
            f"where it comes from, {', or '.join(ways)}"
        )


# The default of functions that may open one.
NOBODY = Vouchers()


def vouchers_of_recipe(lang: str, recipe: Recipe, *, trust: bool, named: Iterable[str]) -> Vouchers:
    """The user's, and the digests of a recipe, where that is the user's own.

    :param lang: the recipe's name, or its path; one outside of ``pipelines/`` may be anybody's.
    """
    own = not lang.endswith(".toml") or Path(lang).parent.resolve() == PIPELINES.resolve()
    charlm = recipe.embeddings.charlm
    english = recipe.english
    pins = [*([english.sha256] if english else ()), *(charlm.sha256 if charlm else ())] if own else []
    return Vouchers(trust=trust, named=frozenset(named), pinned=frozenset(pin.lower() for pin in pins if pin))


def check_digest(name: str, sha256: str, pin: str) -> None:
    """Compare a file with the digest that a recipe, whoever wrote it, pins.

    :param sha256: of the bytes that are opened: nobody can change the file in between.
    :param pin: empty for none.
    :raises ModelError: it is another one.
    """
    if pin and sha256 != pin.lower():
        raise ModelError(
            f"{name}: sha256 is {sha256}, expected {plain(pin)}; the file was changed: make or fetch it "
            "again, or pin the new digest if you know where it comes from"
        )
