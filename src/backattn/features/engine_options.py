"""Check the options of ``backattn features`` that choose the engine and its shards. Imports no torch."""

import re
from dataclasses import dataclass
from typing import Literal

from backattn.common.errors import RecipeError
from backattn.common.safe_text import quoted

EngineName = Literal["local", "processes", "ray"]
_MOST_SHARES = 100_000


@dataclass(frozen=True)
class Share:
    """The shards that one of several commands computes: every ``of``-th.

    :param number: which of these commands, from 1.
    """

    number: int
    of: int


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The options, None where they are not given.

    :param address: of a Ray cluster.
    :param shard: which share of the shards, as ``i/N``.
    :param collect: merge the shards of all shares, compute nothing.
    """

    engine: EngineName | None = None
    workers: int | None = None
    threads: int | None = None
    address: str | None = None
    shard: str | None = None
    collect: bool = False

    @property
    def share(self) -> Share | None:
        """The share that ``shard`` names.

        :raises RecipeError: it is of another form.
        """
        return None if self.shard is None else _parse_share(self.shard)

    def check(self) -> None:
        """Refuse options that do not go together.

        :raises RecipeError: names them.
        """
        _ = self.share
        if self.collect and self != EngineOptions(collect=True):
            raise RecipeError("--collect computes nothing: leave out --shard, --engine and its options")
        if self.workers is not None and self.engine in (None, "local"):
            raise RecipeError("--workers: goes with --engine processes or ray; local is this process alone")
        if self.address is not None and self.engine != "ray":
            raise RecipeError("--address: is that of a Ray cluster, and goes with --engine ray")
        if self.shard is not None and self.engine == "ray":
            raise RecipeError("--shard: goes with --engine local or processes; ray hands shards out itself")


def _parse_share(text: str) -> Share:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of <= _MOST_SHARES:
        raise RecipeError(
            f"--shard {quoted(text)}: expected i/N, which of how many commands, as in 1/4 or 4/4"
        )
    return Share(number, of)
