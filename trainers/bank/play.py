"""Episodes of a table in a world, as fast as objects can be made: the trajectories that any learner takes."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...agents import Action, Call, Request, Sample, Turn
from ...envs import Messages, UsageError, user
from ..rollout import Trajectory
from ..rows import DEMONSTRATION, GREEDY, POLICY
from .policy import Table, log_softmax
from .tasks import Ints, World

Choose = Callable[[int, Ints], Ints]
"""(turn, states [E]) -> symbols [E, L]"""


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """E episodes of up to K turns."""

    states: Ints  # [E, K]
    tokens: Ints  # [E, K, L]
    rewards: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"  # [E, K]
    final: Ints  # [E] the state after the last turn
    turns: Ints  # [E] how many there were


class Player:
    """Plays groups of a world's tasks in turn, all episodes of an update at once.

    Random numbers are keyed by (seed, update), and within by (group, member, turn, position), the world's by (group,
    member, turn): the same seed, update and table give the same trajectories, and two policies that are played with
    one seed are paired.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self._start, self._turns, self._gold = world.starts, world.turns, world.gold
        states, self.length = self._gold.shape
        self.symbols = symbols = world.logits().shape[-1]
        self.seen: list[Messages] = [user(f"{world.name} {s}") for s in range(states)]
        made = [Request((symbols + s,), max_tokens=self.length) for s in range(states)]
        cold = [Request((symbols + s,), max_tokens=self.length, temperature=0.0) for s in range(states)]
        self.requests = {POLICY: made, GREEDY: cold, DEMONSTRATION: made}
        self.names = [f"{world.name} {task}" for task in range(len(self._start))]

    def play(
        self, table: Table, version: int, update: int, *, groups: int, size: int, greedy: bool = False
    ) -> list[Trajectory]:
        """``groups`` groups of ``size`` episodes by the weights of ``version``; with ``greedy`` one more in each, of
        the likeliest symbols, for a baseline.

        Groups are numbered through the run; group i plays task i modulo their number. Raises UsageError for none.
        """
        if groups < 1 or size < 1:
            raise UsageError(f"{groups} groups of {size}: at least one episode is to be played")
        logp = log_softmax(table)
        below = np.exp(logp).cumsum(-1)[..., :-1]
        shape = groups, size, self._turns, self.length
        draws = np.random.default_rng((self.seed, 1, update)).random(shape).reshape(groups * size, *shape[2:])
        number = update * groups + np.arange(groups)
        turns = _Turns(self, version, logp)

        def sample(turn: int, state: Ints) -> Ints:
            return np.asarray((draws[:, turn, :, None] > below[state]).sum(-1))

        played = self._episodes(number.repeat(size), sample, (2, update))
        found = turns.trajectories(POLICY, played, number.repeat(size), size)
        if not greedy:
            return [*found]
        best = table.argmax(-1)
        baseline = self._episodes(number, lambda turn, state: best[state], (3, update))
        return [*found, *turns.trajectories(GREEDY, baseline, number, 1, first=size)]

    def demonstrations(self, groups: Ints, member: int) -> list[Trajectory]:
        """A gold episode of the task of each of ``groups``, as member ``member`` of it."""
        gold = self._episodes(groups, lambda turn, state: self._gold[state], (4, *groups.tolist()))
        return [*_Turns(self, 0, None).trajectories(DEMONSTRATION, gold, groups, 1, first=member)]

    def _episodes(self, group: Ints, choose: Choose, key: tuple[int, ...]) -> Played:
        """``key`` is of the world's chance, which is drawn apart from the policy's."""
        count = len(group)
        chance = np.random.default_rng((self.seed, *key)).random((count, self._turns))
        state = self._start[group % len(self._start)]
        states = np.zeros((count, self._turns), dtype=np.int64)
        tokens = np.zeros((count, self._turns, self.length), dtype=np.int64)
        rewards, turns = np.zeros((count, self._turns)), np.zeros(count, dtype=np.int64)
        going = np.full(count, True)
        for turn in range(self._turns):
            chosen = choose(turn, state)
            stepped = self.world.step(state, chosen, chance[:, turn])
            states[:, turn], tokens[:, turn], rewards[:, turn] = state, chosen, stepped.reward
            turns += going
            state = np.where(going, stepped.state, state)
            going &= ~stepped.over
            if not going.any():
                break
        return Played(states, tokens, rewards, state, turns)


class _Turns:
    """The turns of one version; of equal ones among episodes there is one object."""

    def __init__(self, player: Player, version: int, logp: Table | None) -> None:
        self._player, self._version, self._logp = player, version, logp
        self._places = np.arange(player.length)

    def trajectories(self, source: str, played: Played, group: Ints, each: int, first: int = 0) -> Iterator[Trajectory]:
        """Of E episodes of groups [E]; ``each`` of them in a row are members ``first`` and on of one group."""
        player, ends = self._player, played.turns.cumsum().tolist()
        turns = self._made(source, played)
        for e, (g, final) in enumerate(zip(group.tolist(), played.final.tolist(), strict=True)):
            task, member = g % len(player.names), first + e % each
            made, seen = tuple(turns[ends[e - 1] if e else 0 : ends[e]]), player.seen[final]
            name = f"{source}.{g}.{member}"
            yield Trajectory(name, player.names[task], task, g, member, made, seen, "terminated", source=source)

    def _made(self, source: str, played: Played) -> list[Turn]:
        """Every turn of every episode, in order."""
        there = np.arange(played.states.shape[1]) < played.turns[:, None]
        states, tokens, rewards = played.states[there], played.tokens[there], played.rewards[there]
        digits = self._player.symbols ** np.arange(self._player.length + 1)
        codes = tokens @ digits[:-1] + states * digits[-1]
        _, first, which = np.unique(codes, return_index=True, return_inverse=True)
        states, tokens, rewards = states[first], tokens[first], rewards[first]
        logps = np.zeros(tokens.shape) if self._logp is None else self._logp[states[:, None], self._places, tokens]
        lists = (x.tolist() for x in (states, tokens, logps, self._player.world.written(tokens), rewards))
        made = [self._turn(source, s, t[:n], p[:n], r) for s, t, p, n, r in zip(*lists, strict=True)]
        return [made[i] for i in which.tolist()]

    def _turn(self, source: str, state: int, tokens: list[int], logps: list[float], reward: float) -> Turn:
        sample = Sample(tuple(tokens), tuple(logps), (self._version,) * len(tokens), "stop")
        if self._logp is None:  # a demonstration has none
            sample = Sample(tuple(tokens), (), (), "stop")
        action = Action(" ".join(map(str, tokens)), (Call("policy", self._player.requests[source][state], sample),))
        return Turn(self._player.seen[state], action, reward)


class Delayed:
    """The staleness knob: what update v learns from was played by the weights of version max(0, v - ``lag``)."""

    def __init__(self, lag: int) -> None:
        if lag < 0:
            raise UsageError(f"a lag of {lag}: give a number of updates, 0 for none")
        self.lag = lag
        self._kept: deque[tuple[int, Table]] = deque(maxlen=lag + 1)

    def push(self, version: int, table: Table) -> None:
        """The weights of a new version; versions come in order."""
        self._kept.append((version, table))

    @property
    def player(self) -> tuple[int, Table]:
        """Version and table of who plays now."""
        return self._kept[0]
