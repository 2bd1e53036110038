"""The largest tensor that torch makes: what a computation costs in memory, in numbers that repeat."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the largest result, in values, of all operations, those of a backward pass included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch's compiler is imported, which takes ten seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        self.values = max([self.values, *sizes])
        return found


@contextmanager
def at_most(values: int) -> Iterator[None]:
    """Fail where a tensor of more values is made."""
    with LargestTensor() as found:
        yield
    assert 0 < found.values <= values, f"a tensor of {found.values:,} values, expected at most {values:,}"
