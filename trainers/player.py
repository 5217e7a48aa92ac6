"""Play inside one process: one sampler, worlds pinned to threads or processes and used again."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..agents import Action, Agent, Sampler, Turn, Weights
from ..agents.chat import ChatAgent, Decoding, Prompter
from ..agents.endpoint import Spent
from ..agents.hosted import HostedAgent
from ..agents.memory import MEMORIES
from ..agents.scripted import RandomAgent
from ..envs import Env, Messages
from ..wrappers import Isolated
from .hosting import Host
from .models import load, tokenizer
from .rollout import Begun, Group, Limits, Pinned, Spec, Trajectory, rollout
from .worlds import Options, recorded

if TYPE_CHECKING:
    from ..agents.samplers.vllm import VllmSampler
    from .program import Programs

SCRIPTED = ("random", "gold")
ROWS = 128  # contexts that a sampler decodes at once, and whose keys and values it keeps
CLOSING = 5.0  # seconds that a world may take to close


@dataclass(frozen=True, slots=True)
class Setting:
    """All that a worker needs to play: which worlds, which agent, how to sample, how much at once."""

    env: str
    worlds: tuple[tuple[str, Options], ...]  # by name, see Spec.world
    agent: str  # a model's folder or hub id, or "random" or "gold", or the url of ``host``
    memory: str = "compressed"
    temperature: float = 1.0
    max_tokens: int = 16
    seed: int = 0
    slots: int = 1024  # episodes at once
    threads: int = 1  # that worlds are pinned to
    device: str = "cpu"
    devices: int = 1  # CUDA devices from ``device`` on, which workers take in turn
    dtype: str = "float32"  # that the sampler computes in
    record: bool = False  # screenshots in every turn's info
    together: bool = True  # episodes wait for each other's requests, so that the same run computes the same bits
    limits: Limits = Limits()
    refill: int = 0  # times that a failed episode is played again
    host: Host | None = None  # the endpoint whose model plays
    stall: float = 60.0  # seconds of waiting after which the watchdog names an episode
    servers: tuple[str, ...] = ()  # vLLM's, which play instead of a sampler in the process
    server_seconds: float = 600.0  # in which a server must answer or come back
    program: str = ""  # command line of an agent with a world of its own, in place of env and memory
    requests: int = 0  # replies that a program may have in an episode; 0: no limit

    def of(self, worker: int) -> "Setting":
        """That of one of several workers."""
        return self if self.devices == 1 else replace(self, device=f"{self.device}:{worker % self.devices}", devices=1)

    @property
    def isolated(self) -> bool:
        """Whether worlds live in processes of their own: a hung thread cannot be killed (rule 8)."""
        return bool(self.limits.step or self.limits.episode)


class Plays(Sampler, Weights, Protocol):
    """What a player wants of its sampler."""

    @property
    def version(self) -> int: ...

    def playing(self) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...


class Player:
    """Plays groups; several ``play`` may run at once."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.hosted = setting.host.hosted() if setting.host else None
        self.sampler: Plays | None = None
        self._remote: VllmSampler | None = None
        self.programs: Programs | None = None
        if setting.servers:
            self.sampler = self._remote = _remote(setting)
            self.prompter = Prompter(tokenizer(setting.agent))
        elif setting.agent not in SCRIPTED and not self.hosted:
            from ..agents.samplers import TorchSampler

            model, words = load(setting.agent, setting.device, setting.dtype)
            rows = min(setting.slots, ROWS)
            self.sampler, self.prompter = TorchSampler(model, rows=rows, together=setting.together), Prompter(words)
        if setting.program:
            assert self.sampler is not None, "a program asks a model"
            self.programs = _programs(setting, self.sampler, self.prompter)
        self._threads = [ThreadPoolExecutor(1, f"world-{i}") for i in range(setting.threads)]
        self._worlds = dict(setting.worlds)
        self._free: dict[str, list[Pinned]] = {}
        self._busy: set[Pinned] = set()
        self._made = 0
        self._room = asyncio.Semaphore(setting.slots)
        self._doing: dict[str, tuple[str, float]] = {}  # what an episode waits for, and since when

    @property
    def spent(self) -> Spent | None:
        """What an endpoint has said that was used; None where there is none."""
        return self.hosted.endpoint.spent if self.hosted else None

    async def play(
        self, specs: Sequence[Spec], done: Callable[[Group], None], begun: Callable[[Begun], None] | None = None
    ) -> None:
        """All groups, as many episodes at once as there are slots.

        ``done`` gets each group as it ends, ``begun`` hears of it when the first of its episodes has a slot.
        """
        jobs = [(spec, member) for spec in specs for member in spec.members]
        # together, jobs are dealt beforehand, and an episode is the sampler's from first to last: no batch depends
        # on timing; else whoever is free takes the next
        lanes = min(self.setting.slots, len(jobs)) if self.setting.together else len(jobs)
        played: dict[Spec, list[Trajectory]] = {spec: [] for spec in specs}
        ended: dict[Spec, int] = {spec: 0 for spec in specs}
        waiting = set(specs)

        async def lane(mine: Sequence[tuple[Spec, int]]) -> None:
            async with self._room:
                with self.sampler.playing() if self.sampler else nullcontext():
                    for spec, member in mine:
                        if begun and spec in waiting:
                            waiting.discard(spec)
                            begun(Begun(spec.group, self.sampler.version if self.sampler else 0))
                        played[spec] += await self.member(spec, member)
                        ended[spec] += 1
                        if ended[spec] == len(spec.members):
                            done(Group(spec, tuple(sorted(played.pop(spec), key=lambda t: (t.member, t.attempt)))))

        tasks = [asyncio.create_task(lane(jobs[i::lanes])) for i in range(lanes)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._dismiss({spec.world for spec in specs})

    async def member(self, spec: Spec, member: int) -> list[Trajectory]:
        """A member's attempts: the last one is scored, unless all failed."""
        attempts: list[Trajectory] = []
        while not attempts or (not attempts[-1].scored and len(attempts) <= self.setting.refill):
            attempts.append(await self.episode(spec, member, len(attempts)))
        return attempts

    async def episode(self, spec: Spec, member: int, attempt: int = 0) -> Trajectory:
        name = f"{spec.group}.{member} of {spec.task or spec.world}"

        def doing(what: str) -> None:
            self._doing[name] = what, time.monotonic()

        try:
            if self.programs:
                key = self._key(spec, member, attempt)
                return await self.programs.play(spec, member, key, attempt=attempt, doing=doing)
            async with self._world(spec.world) as world:
                agent = self._agent(spec, member, attempt, world)
                played = await rollout(
                    world, agent, spec, member, limits=self.setting.limits, attempt=attempt, doing=doing
                )
                if not played.scored:
                    await world.discard()  # whatever broke in it, the next episode gets a new one
                return played
        finally:
            self._doing.pop(name, None)

    async def watch(self) -> None:
        """The watchdog: names what is stuck, each time once, until it is cancelled."""
        told = set[tuple[str, float]]()
        while True:
            await asyncio.sleep(min(self.setting.stall / 4, 5.0))
            now = time.monotonic()
            for name, (what, since) in self._doing.items():
                if now - since >= self.setting.stall and (name, since) not in told:
                    told.add((name, since))
                    logging.getLogger("turngym").warning(
                        "stuck: episode %s has waited %.0f s for %s", name, now - since, what
                    )

    async def close(self) -> None:
        """Close every world, also those that a cancelled play left in the middle of a step."""
        worlds = [*self._busy, *(w for worlds in self._free.values() for w in worlds)]
        await asyncio.gather(*(self._closed(world) for world in worlds))
        for thread in self._threads:
            thread.shutdown(wait=not self._busy)
        if self.programs:
            await self.programs.close()
        if self.sampler:
            self.sampler.close()
        if self.hosted:
            await self.hosted.endpoint.close()
        if self._remote:
            await self._remote.shut()

    def tell(self, version: int, live: Sequence[int]) -> None:
        """These servers have these weights."""
        assert self._remote is not None, "it plays without servers"
        self._remote.tell(version, live)

    async def _dismiss(self, names: set[str]) -> None:
        """Processes of worlds that are played now and then do not stay: each may hold a browser of its own."""
        for name in names - {self.setting.worlds[0][0]} if self.setting.isolated else ():
            await asyncio.gather(*(self._closed(world) for world in self._free.pop(name, [])))

    async def _closed(self, world: Pinned) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(world.discard(kill=world in self._busy), CLOSING)

    def _agent(self, spec: Spec, member: int, attempt: int, world: Pinned) -> Agent:
        setting, key = self.setting, self._key(spec, member, attempt)
        if setting.agent == "random":
            return RandomAgent(key)
        decoding = Decoding(0.0 if spec.takes_likeliest(member) else setting.temperature, setting.max_tokens)
        memory, session = MEMORIES[setting.memory], f"{spec.world}.{spec.group}.{member}.{attempt}"
        if self.hosted:
            return HostedAgent(self.hosted, memory, decoding, key)
        if self.sampler is None:
            return _Gold(world)
        return ChatAgent(self.sampler, self.prompter, memory, decoding, key, session)

    def _key(self, spec: Spec, member: int, attempt: int) -> tuple[int, ...]:
        """Of an episode's random numbers."""
        return (self.setting.seed, spec.group, spec.seed, member, *((attempt,) if attempt else ()))

    @asynccontextmanager
    async def _world(self, name: str) -> AsyncIterator[Pinned]:
        free = self._free.setdefault(name, [])
        if not free:
            free.append(Pinned(partial(self._make, name), self._thread()))
        world = free.pop()
        self._busy.add(world)
        yield world
        self._busy.discard(world)  # what was left by an exception is discarded at the end
        free.append(world)

    def _thread(self) -> ThreadPoolExecutor:
        """An isolated world has a thread of its own, which waits for its process; the others share."""
        if self.setting.isolated:
            self._threads.append(ThreadPoolExecutor(1, f"world-{self._made}"))
            return self._threads[-1]
        self._made += 1
        return self._threads[(self._made - 1) % self.setting.threads]

    def _make(self, name: str) -> Env:
        make = partial(recorded, self.setting.env, self._worlds[name], self.setting.record)
        return Isolated(make) if self.setting.isolated else make()


def _remote(setting: Setting) -> "VllmSampler":
    """Of the run's servers, which play no weights but those that the run gave them."""
    from ..agents.samplers.vllm import VllmSampler

    seconds = setting.server_seconds
    return VllmSampler(setting.servers, timeout=seconds, patience=seconds, initial=None)


def _programs(setting: Setting, sampler: Sampler, prompter: Prompter) -> "Programs":
    """Of the setting's command."""
    from .program import Programs

    decoding = Decoding(setting.temperature, setting.max_tokens)
    return Programs(setting.program, sampler, prompter, decoding, setting.requests, setting.limits.episode)


@dataclass(frozen=True, slots=True)
class _Gold:
    """Does what the world itself says is right."""

    world: Pinned

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action:
        return Action(await self.world.cheat())
