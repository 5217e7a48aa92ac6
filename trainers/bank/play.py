"""Episodes of a table in a world, as fast as objects can be made: the trajectories that any learner takes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ...agents import Action, Call, Request, Sample, Turn
from ...envs import Messages, UsageError, user
from ..rollout import Group, Spec, Trajectory
from ..rows import DEMONSTRATION, GREEDY, POLICY
from .policy import Table, log_softmax
from .tasks import Ints, Reals, World

Choose = Callable[[int, Ints], Ints]
"""(turn, states [E]) -> symbols [E, L]"""


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """E episodes of up to K turns."""

    states: Ints  # [E, K]
    tokens: Ints  # [E, K, L]
    rewards: Reals  # [E, K]
    final: Ints  # [E] the state after the last turn
    turns: Ints  # [E] how many there were


@dataclass(frozen=True, slots=True, eq=False)
class Who:
    """Whose episodes E of them are."""

    task: Ints  # [E]
    group: Ints  # [E]
    member: Ints  # [E]


class Player:
    """Plays groups of a world's tasks in turn, all episodes of an update at once.

    Random numbers are keyed by (seed, update), and within by (group, member, turn, position), the world's by (group,
    member, turn): the same seed, update and table give the same trajectories, and two policies that are played with
    one seed are paired. Those of ``parts`` are keyed by (seed, group, member), whatever else is played with them.
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
        self._tasks = {name: task for task, name in enumerate(self.names)}

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
        shape = groups, size, self._turns, self.length
        draws = np.random.default_rng((self.seed, 1, update)).random(shape).reshape(groups * size, *shape[2:])
        number = update * groups + np.arange(groups)
        turns = _Turns(self, version, logp)
        who = self._in_turn(number.repeat(size), np.tile(np.arange(size), groups))
        played = self._episodes(who.task, _sampled(logp, draws), self._chance(len(who.task), 2, update))
        found = turns.trajectories(POLICY, played, who)
        if not greedy:
            return [*found]
        best = table.argmax(-1)
        beside = self._in_turn(number, np.full(groups, size))
        baseline = self._episodes(beside.task, lambda turn, state: best[state], self._chance(groups, 3, update))
        return [*found, *turns.trajectories(GREEDY, baseline, beside)]

    def parts(self, table: Table, version: int, specs: Sequence[Spec]) -> list[Group]:
        """Groups, or parts of groups, as ``specs`` have them by the weights of ``version``, all episodes at once.

        An episode has the same random numbers with whatever others it is played. Raises UsageError for no specs, for a
        greedy one and for a task that is not the world's.
        """
        if not specs or any(s.greedy or s.baseline or s.task not in self._tasks for s in specs):
            raise UsageError("parts to play are of this world's tasks and sampled, and there is at least one")
        whose = [(self._tasks[s.task], s.group, member) for s in specs for member in s.members]
        keyed = [np.random.default_rng((self.seed, 7, group, member)) for _, group, member in whose]
        draws = np.stack([rng.random((self._turns, self.length + 1)) for rng in keyed])  # the last is the world's
        logp, who = log_softmax(table), Who(*np.array(whose).T)
        played = self._episodes(who.task, _sampled(logp, draws[..., :-1]), draws[..., -1])
        found = _Turns(self, version, logp).trajectories(POLICY, played, who)
        return [Group(spec, tuple(islice(found, len(spec.members)))) for spec in specs]

    def demonstrations(self, groups: Ints, member: int) -> list[Trajectory]:
        """A gold episode of the task of each of ``groups``, as member ``member`` of it."""
        who, chance = self._in_turn(groups, np.full(len(groups), member)), (4, *groups.tolist())
        gold = self._episodes(who.task, lambda turn, state: self._gold[state], self._chance(len(groups), *chance))
        return [*_Turns(self, 0, None).trajectories(DEMONSTRATION, gold, who)]

    def _in_turn(self, group: Ints, member: Ints) -> Who:
        return Who(group % len(self.names), group, member)

    def _chance(self, count: int, *key: int) -> Reals:
        """The world's, [count, K], which is drawn apart from the policy's."""
        return np.random.default_rng((self.seed, *key)).random((count, self._turns))

    def _episodes(self, task: Ints, choose: Choose, chance: Reals) -> Played:
        """Of tasks [E]; ``chance`` [E, K] is the world's."""
        count = len(task)
        state = self._start[task]
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


def _sampled(logp: Table, draws: Reals) -> Choose:
    """Symbols by ``draws`` [E, K, L]."""
    below = np.exp(logp).cumsum(-1)[..., :-1]
    return lambda turn, state: np.asarray((draws[:, turn, :, None] > below[state]).sum(-1))


class _Turns:
    """The turns of one version; of equal ones among episodes there is one object."""

    def __init__(self, player: Player, version: int, logp: Table | None) -> None:
        self._player, self._version, self._logp = player, version, logp
        self._places = np.arange(player.length)

    def trajectories(self, source: str, played: Played, who: Who) -> Iterator[Trajectory]:
        """Of E episodes; a task's prompt is always the same, and so is its seed."""
        player, ends = self._player, played.turns.cumsum().tolist()
        turns = self._made(source, played)
        whose = zip(who.task.tolist(), who.group.tolist(), who.member.tolist(), played.final.tolist(), strict=True)
        for e, (task, g, member, final) in enumerate(whose):
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
