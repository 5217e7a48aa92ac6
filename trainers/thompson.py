"""Thompson sampling of the task that teaches most."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from ..envs import UsageError
from .curriculum import Drawn, returns
from .rollout import Group

POINTS = 1025  # of the integral: right to about 1e-5, with up to a thousand tasks of some tens of counts

Floats = NDArray[np.float64]


class Thompson(Drawn):
    """After VADE (arXiv 2511.18902): Thompson sampling of success, for the largest information gain.

    Of each task a success rate p is drawn from its posterior Beta(prior + wins, prior + losses), and the task with the
    largest p (1 - p), the variance of its outcome, is played. Wins and losses are counts that fade.

    Of the paper only the abstract was at hand: a Beta distribution for each sample, a Thompson sampler that maximises
    information gain, a two-scale decay of the prior; neither its formulas nor its code. Ours are
    - the gain p (1 - p) (one secondary source has p (1 - p)^2 for the paper's);
    - the two scales: at each update all counts fade by ``aging``, for the policy has changed, and those of a task that
      was played fade by ``memory`` too, as new counts replace them. Both are exponential towards the prior, the form of
      MoPPS (arXiv 2507.04632; verl's recipe/mopps), which has one scale;
    - the ``uniform`` share of draws, so that no task starves.

    Raises UsageError for a prior that is not positive, a decay outside 0 to 1, a share not above 0 and at most 1.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        seed: int,
        *,
        prior: float = 1.0,
        aging: float = 0.98,
        memory: float = 0.8,
        uniform: float = 0.05,
    ) -> None:
        super().__init__(tasks, seed)
        if prior <= 0 or not 0 <= aging <= 1 or not 0 <= memory <= 1 or not 0 < uniform <= 1:
            raise UsageError(f"prior={prior} must be positive, aging={aging} and memory={memory} within 0 and 1, "
                             f"uniform={uniform} above 0 and at most 1")  # fmt: skip
        self._prior, self._aging, self._memory, self._uniform = prior, aging, memory, uniform
        self.wins = dict.fromkeys(self.tasks, 0.0)
        self.losses = dict.fromkeys(self.tasks, 0.0)

    def draw(self, group: int) -> str:
        rng = np.random.default_rng((self.seed, 2, group))
        if rng.random() < self._uniform:
            return self.tasks[int(rng.integers(len(self.tasks)))]
        p = rng.beta(*self._posterior())
        return self.tasks[int(np.argmax(p * (1 - p)))]

    def probabilities(self) -> Mapping[str, float]:
        """By numerical integration; ``draw`` samples instead, and agrees with it in distribution."""
        p = (1 - self._uniform) * winners(*self._posterior()) + self._uniform / len(self.tasks)
        return dict(zip(self.tasks, p.tolist(), strict=True))

    def update(self, groups: Sequence[Group]) -> None:
        """The groups of one update: their order does not matter, and without an episode that counts nothing fades."""
        played = defaultdict[str, list[float]](list)
        for group in groups:
            if scored := returns(group):
                played[group.spec.task] += scored
        if not played:
            return
        for task in self.tasks:
            keep = self._aging * (self._memory if task in played else 1)
            seen = played.get(task, [])
            won = sum(r > 0 for r in seen)
            self.wins[task] = keep * self.wins[task] + won
            self.losses[task] = keep * self.losses[task] + len(seen) - won

    def facts(self) -> Mapping[str, float]:
        """The posterior mean of each task's success."""
        alpha, beta = self._posterior()
        return dict(zip(self.tasks, (alpha / (alpha + beta)).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"wins": dict(self.wins), "losses": dict(self.losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.wins, self.losses = dict(state["wins"]), dict(state["losses"])

    def _posterior(self) -> tuple[Floats, Floats]:
        """Alpha [tasks] and beta [tasks]."""
        wins, losses = ([counts[task] for task in self.tasks] for counts in (self.wins, self.losses))
        return self._prior + np.array(wins), self._prior + np.array(losses)


def winners(alpha: Floats, beta: Floats) -> Floats:
    """The probability [n] that p (1 - p) of Beta(alpha [n], beta [n]) is the largest of n independent draws.

    p (1 - p) rises with u = min(p, 1 - p), whose distribution function is F(u) = I_u(alpha, beta) + I_u(beta, alpha),
    for u up to a half. The i-th is the largest with probability of the integral of prod over j != i of F_j, dF_i: here
    by the trapezoid rule in F_i.
    """
    u = np.linspace(0, 0.5, POINTS)
    a, b = alpha[:, None], beta[:, None]
    below = betainc(a, b, u) + betainc(b, a, u)  # [n, POINTS]
    one = np.ones((1, POINTS))
    before = np.cumprod(np.vstack([one, below[:-1]]), axis=0)
    after = np.cumprod(np.vstack([one, below[:0:-1]]), axis=0)[::-1]
    others = before * after  # rather than all divided by each, which may be 0
    shares = ((others[:, 1:] + others[:, :-1]) * np.diff(below)).sum(1)
    return np.asarray(shares / shares.sum())
