"""Worker processes: worlds and samplers play there, so that the learner's process only learns."""

import asyncio
import logging
import multiprocessing as mp
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Self

from torch import Tensor

from ..agents import Action, Agent, Turn
from ..agents.chat import ChatAgent, Decoding, Prompter
from ..agents.memory import MEMORIES
from ..agents.scripted import RandomAgent
from ..envs import Env, EnvError, Messages, TurngymError, UsageError
from ..wrappers import Recorded
from .rollout import Group, Pinned, Spec, Trajectory, rollout
from .worlds import Options, make

SCRIPTED = ("random", "gold")


@dataclass(frozen=True, slots=True)
class Setting:
    """All that a worker needs to play: which worlds, which agent, how to sample, how much at once."""

    env: str
    worlds: tuple[tuple[str, Options], ...]  # by name, see Spec.world
    agent: str  # a model's folder or hub id, or "random" or "gold"
    memory: str = "compressed"
    temperature: float = 1.0
    max_tokens: int = 16
    seed: int = 0
    slots: int = 1024  # episodes at once
    threads: int = 1  # that worlds are pinned to
    device: str = "cpu"
    record: bool = False  # screenshots in every turn's info


class Player:
    """Plays groups inside one process: one sampler, worlds pinned to threads and used again."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.sampler = setting, None
        if setting.agent not in SCRIPTED:
            from ..agents.samplers import TorchSampler
            from .models import load

            model, tokenizer = load(setting.agent, setting.device)
            self.sampler, self.prompter = TorchSampler(model), Prompter(tokenizer)
        self._threads = [ThreadPoolExecutor(1, f"world-{i}") for i in range(setting.threads)]
        self._worlds = dict(setting.worlds)
        self._free: dict[str, list[Pinned]] = {}
        self._made = 0

    async def play(self, specs: Sequence[Spec], done: Callable[[Group], None]) -> None:
        """All groups, as many episodes at once as there are slots; ``done`` gets each group as it ends."""
        jobs = [(spec, member) for spec in specs for member in range(spec.size)]
        slots = min(self.setting.slots, len(jobs))
        played: dict[Spec, list[Trajectory]] = {spec: [] for spec in specs}

        async def slot(mine: Sequence[tuple[Spec, int]]) -> None:
            # dealt beforehand, and one episode to the sampler from first to last: no batch depends on timing
            with self.sampler.playing() if self.sampler else nullcontext():
                for spec, member in mine:
                    played[spec].append(await self.episode(spec, member))
                    if len(played[spec]) == spec.size:
                        done(Group(spec, tuple(sorted(played[spec], key=lambda t: t.member))))

        await asyncio.gather(*(slot(jobs[i::slots]) for i in range(slots)))

    async def episode(self, spec: Spec, member: int) -> Trajectory:
        async with self._world(spec.world) as world:
            played = await rollout(world, self._agent(spec, member, world), spec, member)
            if not played.scored:
                await world.discard()  # whatever broke in it, the next episode gets a new one
            return played

    async def close(self) -> None:
        for world in [w for worlds in self._free.values() for w in worlds]:
            await world.close()
        for thread in self._threads:
            thread.shutdown()
        if self.sampler:
            self.sampler.close()

    def _agent(self, spec: Spec, member: int, world: Pinned) -> Agent:
        setting, key = self.setting, (self.setting.seed, spec.group, spec.seed, member)
        if setting.agent == "random":
            return RandomAgent(key)
        if self.sampler is None:
            return _Gold(world)
        decoding = Decoding(0.0 if spec.greedy else setting.temperature, setting.max_tokens)
        memory = MEMORIES[setting.memory]
        return ChatAgent(self.sampler, self.prompter, memory, decoding, key, f"{spec.group}.{member}")

    @asynccontextmanager
    async def _world(self, name: str) -> AsyncIterator[Pinned]:
        free = self._free.setdefault(name, [])
        if not free:
            thread = self._threads[self._made % len(self._threads)]
            free.append(Pinned(partial(_make, self.setting, self._worlds[name]), thread))
            self._made += 1
        world = free.pop()
        try:
            yield world
        finally:
            free.append(world)


def _make(setting: Setting, made_with: Options) -> Env:
    world = make(setting.env, made_with)
    return Recorded(world) if setting.record else world


@dataclass(frozen=True, slots=True)
class _Gold:
    """Does what the world itself says is right."""

    world: Pinned

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action:
        return Action(await self.world.cheat())


def serve(setting: Setting, pipe: Connection) -> None:
    """A worker's main: ("play", specs) answers group for each, ("weights", version, tensors) loads, None ends."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    torch.set_num_threads(1)
    logging.basicConfig(format="%(message)s")
    try:
        with asyncio.Runner() as runner:
            player = Player(setting)
            try:
                while (message := pipe.recv()) is not None:
                    if message[0] == "weights":
                        assert player.sampler is not None, "scripted agents have no weights"
                        player.sampler.publish(((k, torch.from_numpy(v)) for k, v in message[2].items()), message[1])
                    else:
                        runner.run(player.play(message[1], lambda group: pipe.send(group)))
            finally:
                runner.run(player.close())
    except (EOFError, BrokenPipeError):
        pass  # the parent has gone
    except TurngymError as error:
        pipe.send(error)
    except Exception:  # whatever it was, the parent must learn of it rather than wait
        pipe.send(EnvError(f"a rollout worker failed:\n{traceback.format_exc()}"))


class Workers:
    """Several ``serve`` processes; groups are dealt to them in turn, so that the same run deals the same.

    A context manager. One thread reads what the processes answer as it comes, so that neither side ever waits for
    the other to read.
    """

    def __init__(self, setting: Setting, count: int) -> None:
        if count < 1:
            raise UsageError(f"workers must be at least 1, not {count}")
        self.worlds = dict(setting.worlds)
        context = mp.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        self._answers: queue.SimpleQueue[Group | BaseException] = queue.SimpleQueue()
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(setting, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._reader = threading.Thread(target=_read, args=(list(self._pipes), self._answers), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Send weights; every group submitted later is played with them."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}  # by value: no file descriptor a tensor
        for pipe in self._pipes:
            self._send(pipe, ("weights", version, arrays))

    def submit(self, specs: Sequence[Spec]) -> None:
        """Start groups; ``collect`` brings them."""
        for i, pipe in enumerate(self._pipes):
            if dealt := list(specs[i :: len(self._pipes)]):
                self._send(pipe, ("play", dealt))

    def collect(self, count: int) -> list[Group]:
        """The next ``count`` groups as they end; raises what a worker failed with, EnvError when one died."""
        groups: list[Group] = []
        while len(groups) < count:
            answer = self._answers.get()
            if isinstance(answer, BaseException):
                raise answer
            groups.append(answer)
        return groups

    def close(self) -> None:
        """End the processes; may be called twice."""
        for pipe in self._pipes:
            self._send(pipe, None)
        last = time.monotonic() + 10  # seconds for all of them
        for process in self._processes:
            process.join(max(0.0, last - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._reader.join()
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

    @staticmethod
    def _send(pipe: Connection, message: object) -> None:
        try:
            pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker has failed; ``collect`` receives why


def _read(pipes: list[Connection], answers: "queue.SimpleQueue[Group | BaseException]") -> None:
    """Hands on what the workers answer until every one has ended."""
    while pipes:
        for ready in wait(pipes):
            assert isinstance(ready, Connection)
            try:
                answer = ready.recv()
            except (EOFError, ConnectionResetError):
                pipes.remove(ready)
                answers.put(EnvError("a rollout worker ended; if the machine is out of memory, use fewer groups"))
            else:
                answers.put(answer)
