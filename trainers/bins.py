"""Tasks in bins of difficulty; the middle ones are drawn most."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence

from ..envs import UsageError
from .curriculum import Spread


class Bins(Spread):
    """Draws a bin by its weight, then a task of the bin, each alike; no paper's: our own.

    A task lies in the bin of its running success p (that of ``Spread``: a half before its first group). ``edges`` part
    the bins: with edges e, bin i holds e_(i-1) <= p < e_i, the first begins at 0 and the last ends with 1. Bins without
    tasks are left out, so a task of bin b, one of n there, has probability w_b / (n * sum of w over bins with tasks).
    As the choice between bins comes first, many tasks that are all too hard do not crowd out one that is not.

    Raises UsageError for edges that do not rise within (0, 1), a weight that is not positive (a bin must not starve),
    or another number of weights than of bins.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        seed: int,
        *,
        edges: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
        weights: Sequence[float] = (1.0, 2.0, 4.0, 2.0, 1.0),
        memory: float = 0.8,
    ) -> None:
        super().__init__(tasks, seed, memory=memory)
        rising = all(low < high for low, high in zip((0.0, *edges), (*edges, 1.0), strict=True))
        if not rising or len(weights) != len(edges) + 1 or min(weights) <= 0:
            raise UsageError(f"edges {edges}, weights {weights}: edges must rise within 0 and 1, and part as many bins "
                             "as there are weights, all positive")  # fmt: skip
        self._edges, self._weights = tuple(edges), tuple(weights)

    def bin(self, task: str) -> int:
        """In which the task lies, from 0, the hardest."""
        return bisect_right(self._edges, self.success[task])

    def probabilities(self) -> Mapping[str, float]:
        places = {task: self.bin(task) for task in self.tasks}
        sizes = Counter(places.values())
        whole = sum(self._weights[b] for b in sizes)
        return {task: self._weights[b] / (whole * sizes[b]) for task, b in places.items()}
