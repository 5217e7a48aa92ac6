"""Learner processes that share the micro-batches of every pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """One of ``count`` processes that all do the same, each with its own share of the micro-batches.

    Every pass through a sharded model is collective, so that all take equally many. What is added up here is the same
    on all of them, bit for bit.
    """

    rank: int = 0
    count: int = 1
    order: Callable[[str, tuple[Any, ...]], None] | None = None  # what rank 0 tells the others to do

    def tell(self, method: str, *arguments: Any) -> None:
        """The other processes' learners do this too; nothing on those, and alone."""
        if self.order is not None:
            self.order(method, arguments)

    def share(self, parts: Sequence[T]) -> Iterator[tuple[T, bool]]:
        """This process's parts, and whether they count: where there are not enough, the first is taken in vain."""
        for start in range(0, len(parts), self.count):
            at = start + self.rank
            yield (parts[at], True) if at < len(parts) else (parts[0], False)

    def sum(self, x: Tensor) -> Tensor:
        """The sum of every process's ``x``, in place."""
        if self.count > 1:
            dist.all_reduce(x)
        return x

    def total(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums by name of all processes, added in their order; each may lack names."""
        if self.count == 1:
            return dict(sums)
        found: list[dict[str, float]] = [{} for _ in range(self.count)]
        dist.all_gather_object(found, {name: float(value) for name, value in sums.items()})
        names = sorted({name for each in found for name in each})
        return {n: torch.tensor(sum(f.get(n, 0.0) for f in found), dtype=torch.float64) for n in names}


ALONE = Ranks()
