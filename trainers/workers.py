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
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Self

import torch
from torch import Tensor

from ..agents.endpoint import Spent
from ..envs import EnvError, TurngymError, UsageError
from ..wrappers.isolated import portable
from .engines import Engines
from .player import Player, Setting
from .rollout import Begun, Group, Spec

_BEAT = 1.0  # seconds between two signs of life


def serve(setting: Setting, pipe: Connection) -> None:
    """A worker's main: ("play", specs) answers Begun, then Group for each, ("weights", ...) loads, None ends.

    ("servers", version, live) says which servers have which weights.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    torch.set_num_threads(1)
    logging.basicConfig(format="%(message)s")
    try:
        asyncio.run(_serve(setting, pipe))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has gone
    except TurngymError as error:
        pipe.send(portable(error))
    except Exception:  # whatever it was, the parent must learn of it rather than wait
        pipe.send(EnvError(f"a rollout worker failed:\n{traceback.format_exc()}"))
    finally:
        logging.shutdown()
        if any(t is not threading.main_thread() and not t.daemon for t in threading.enumerate()):
            os._exit(0)  # a world hangs in its thread, which nothing can end and Python would wait for


async def _serve(setting: Setting, pipe: Connection) -> None:
    """Do what is asked for: together one order after the other, else all at once, also under way."""
    loop, inbox = asyncio.get_running_loop(), asyncio.Queue[Any]()
    threading.Thread(target=_receive, args=(pipe, loop, inbox), daemon=True).start()
    player, turn, doing = Player(setting), asyncio.Lock(), set[asyncio.Task[None]]()
    beside = [loop.create_task(player.watch()), loop.create_task(_beat(pipe))]

    async def do(order: tuple[Any, ...]) -> None:
        async with turn if setting.together else nullcontext():
            if order[0] == "play":
                await player.play(order[1], pipe.send, pipe.send)
            elif order[0] == "servers":
                player.tell(order[1], order[2])
            else:
                assert player.sampler is not None, "scripted agents have no weights"
                player.sampler.publish(((k, torch.from_numpy(v)) for k, v in order[2].items()), order[1])

    def ended(task: asyncio.Task[None]) -> None:
        doing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            inbox.put_nowait(error)

    try:
        while (message := await inbox.get()) is not None:  # always listening: the order to end is never late
            if isinstance(message, BaseException):
                raise message
            task = loop.create_task(do(message))
            doing.add(task)
            task.add_done_callback(ended)
    finally:
        for task in (*doing, *beside):
            task.cancel()
        await asyncio.gather(*doing, *beside, return_exceptions=True)
        await player.close()
        if player.spent:
            pipe.send(player.spent)


def _receive(pipe: Connection, loop: asyncio.AbstractEventLoop, inbox: "asyncio.Queue[Any]") -> None:
    """Hands on what the parent says; its end is an order to end."""
    message: Any = ()
    while message is not None:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            message = None
        with suppress(RuntimeError):  # the loop is closed: the worker has ended by itself
            loop.call_soon_threadsafe(inbox.put_nowait, message)


async def _beat(pipe: Connection) -> None:
    """Signs of life, as long as the event loop turns."""
    while True:
        pipe.send(None)
        await asyncio.sleep(_BEAT)


class Workers:
    """Several ``serve`` processes; groups are dealt to them in turn, so that the same run deals the same.

    A context manager. One thread reads what the processes answer as it comes, so that neither side ever waits for
    the other to read.
    """

    def __init__(self, setting: Setting, count: int, engines: Engines | None = None) -> None:
        if count < 1:
            raise UsageError(f"workers must be at least 1, not {count}")
        self.worlds, self._engines = dict(setting.worlds), engines
        self.spent = Spent()  # whole when all workers have ended
        self._sending = threading.Lock()  # servers that come back are told of by another thread
        context = mp.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        self._answers: queue.SimpleQueue[Group | Begun | BaseException] = queue.SimpleQueue()
        self._heard: dict[Connection, float] = {}  # when a worker last said anything
        self._stall = setting.stall
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(setting.of(number), theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._heard[ours] = time.monotonic()
            self._processes.append(process)
        if engines is not None:
            engines.alarm = self._answers.put
        self._reader = threading.Thread(target=self._read, args=(list(self._pipes),), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Send weights; every group submitted later is played with them."""
        if self._engines is not None:
            self._engines.publish(tensors, version, self.tell)
            return
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}  # by value: no file descriptor a tensor
        for pipe in self._pipes:
            self._send(pipe, ("weights", version, arrays))

    def tell(self, version: int, live: Sequence[int]) -> None:
        """These of the run's servers have these weights."""
        for pipe in list(self._pipes):
            self._send(pipe, ("servers", version, tuple(live)))

    def submit(self, specs: Sequence[Spec]) -> None:
        """Start groups; ``collect`` or ``hear`` brings them."""
        for i, pipe in enumerate(self._pipes):
            if dealt := [spec for spec in specs if spec.group % len(self._pipes) == i]:
                self._send(pipe, ("play", dealt))

    def collect(self, count: int) -> list[Group]:
        """The next ``count`` groups as they end, without word of when they began.

        Raises what a worker failed with, EnvError when one died, and what the watch of the servers found.
        """
        groups: list[Group] = []
        while len(groups) < count:
            if isinstance(answer := self._next(), Group):
                groups.append(answer)
        return groups

    def hear(self, wait: bool = True) -> list[Group | Begun]:
        """All that has happened since, at least one thing if ``wait``; raises like ``collect``."""
        if self._engines is not None:
            self._engines.check()
        heard = [self._next()] if wait else []
        while not self._answers.empty():
            heard.append(self._next())
        return heard

    def _next(self) -> Group | Begun:
        """While nothing comes, the watchdog names a worker that gives no sign of life.

        What a living one waits for, it says itself.
        """
        while True:
            if self._engines is not None:
                self._engines.check()
            try:
                answer = self._answers.get(timeout=self._stall)
            except queue.Empty:
                self._complain()
                continue
            if isinstance(answer, BaseException):
                raise answer
            return answer

    def _complain(self) -> None:
        now = time.monotonic()
        for number, pipe in enumerate(self._pipes):
            silent = now - self._heard[pipe]
            if silent >= self._stall:
                logging.getLogger("turngym").warning(
                    "stuck: rollout worker %d (process %d) has given no sign of life for %.0f s: its event loop is"
                    " blocked, or the machine is short of memory or processor time",
                    number, self._processes[number].pid or 0, silent,
                )  # fmt: skip

    def close(self) -> None:
        """End the processes; may be called twice."""
        for pipe in self._pipes:
            self._send(pipe, None)
        last = time.monotonic() + 30  # seconds for all of them
        for process in self._processes:
            process.join(max(0.0, last - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._reader.join()
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

    def _send(self, pipe: Connection, message: object) -> None:
        try:
            with self._sending:
                pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker has failed; ``collect`` or ``hear`` receives why

    def _read(self, pipes: list[Connection]) -> None:
        """In a thread of its own: hands on what the workers answer until every one has ended."""
        while pipes:
            for ready in wait(pipes):
                assert isinstance(ready, Connection)
                try:
                    answer = ready.recv()
                except (EOFError, OSError):
                    pipes.remove(ready)
                    self._answers.put(
                        EnvError("a rollout worker ended; if the machine is out of memory, use fewer groups")
                    )
                    continue
                except Exception as error:  # an object in an info, say, whose class is not known here
                    answer = EnvError(f"an answer of a rollout worker cannot be read: {error}")
                self._heard[ready] = time.monotonic()
                if isinstance(answer, Spent):
                    self.spent = self.spent.beside(answer)
                elif answer is not None:
                    self._answers.put(answer)
