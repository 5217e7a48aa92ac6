"""The processes that learn together: this one is the first, and the others do what it does."""

import logging
import os
import pickle
import queue
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from ..envs import Failure, TurngymError
from ..wrappers.isolated import portable
from .learner import Learner
from .plan import Plan
from .ranks import Ranks

START = 300.0  # seconds that a process may take to start
GRACE = 10.0  # seconds in which the reason for a broken pass may still come
SETTLE = 1.0  # seconds in which those that a process takes with it end after it
FULL = "a GPU is out of memory: try a lower --micro-tokens, and --checkpointing"


class Team:
    """``count`` processes of one machine, CUDA devices 0 to ``count`` - 1 or one CPU; a context manager.

    Orders go through pipes, figures through gloo or NCCL, whose processes meet in a file that this user alone sees.
    Alone, and unless it is to be ``grouped``, it is nothing: one process needs a group where FSDP keeps its weights.

    When one of the others ends, the run ends with a Failure that says why; Ctrl-C is for this process to decide.
    """

    def __init__(self, count: int = 1, device: str = "cpu", *, grouped: bool = False, threads: int = 1) -> None:
        self._count, self._device, self._threads = count, torch.device(device), threads
        self._grouped = grouped or count > 1
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self._closing = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.ranks = Ranks(0, count, self._tell if count > 1 else None)

    def __enter__(self) -> Self:
        if not self._grouped:
            return self
        path = self._meeting() if self._count > 1 else ""
        store = _store(path, self._count)
        context = get_context("spawn")
        try:
            for rank in range(1, self._count):
                ours, theirs = context.Pipe()
                place = (rank, self._count, path, str(self._device), self._threads)
                process = context.Process(target=_follow, args=(theirs, *place), daemon=True)
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
            for pipe in self._pipes:
                self._hear(pipe)
                self._send(pipe, pickle.dumps(None))
            _join(store, 0, self._count, self._device)
        except BaseException:
            self._end(kill=True)
            raise
        if self._count > 1 and self._device.type == "cuda":
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        fault: TurngymError | None = None
        if isinstance(error, torch.OutOfMemoryError):
            fault = Failure(FULL)
        elif isinstance(error, Exception) and not isinstance(error, TurngymError):
            fault = self._fault()
        self._end(kill=error is not None)
        if fault is not None:
            raise fault from error

    def learner(self, plan: Plan) -> Learner:
        """This process's learner; the others make theirs, and forget the one before."""
        self.ranks.tell("", plan)
        return plan.learner(self.ranks)

    def _tell(self, method: str, arguments: tuple[Any, ...]) -> None:
        # as bytes: pipes would hand tensors over as file descriptors, one each
        order = pickle.dumps((method, arguments))
        for pipe in self._pipes:
            self._send(pipe, order)

    @staticmethod
    def _send(pipe: Connection, order: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has failed; the next pass breaks, and says why
            pipe.send_bytes(order)

    def _hear(self, pipe: Connection) -> None:
        """Wait until a process is there. Raises what it says instead, Failure where it ends without a word."""
        said: Any = TimeoutError(f"nothing in {START:.0f} s")
        with suppress(EOFError, OSError):
            if pipe.poll(START):
                said = pipe.recv()
        if isinstance(said, TurngymError):
            raise said
        if said is not None:
            raise self._fault() or Failure(f"a learner process did not start: {said}")

    def _fault(self) -> TurngymError | None:
        """What another process failed of, if one has: one that was killed before those that it took with it."""
        if not self._processes or not wait([process.sentinel for process in self._processes], GRACE):
            return None
        ends, words = time.monotonic() + SETTLE, list[TurngymError]()
        for process in self._processes:
            process.join(max(0.0, ends - time.monotonic()))
        for number, (pipe, process) in enumerate(zip(self._pipes, self._processes, strict=True), 1):
            said: Any = None
            with suppress(EOFError, OSError):
                said = pipe.recv() if pipe.poll() else None
            if isinstance(said, TurngymError):
                words.append(said)
            elif process.exitcode is not None:
                return Failure(
                    f"learner process {number} ended (exit code {process.exitcode}); if the machine is out of memory,"
                    " use fewer processes or micro_tokens"
                )
        return words[0] if words else None

    def _meeting(self) -> str:
        """The file in which the processes find each other."""
        self._folder = tempfile.TemporaryDirectory(prefix="turngym-", ignore_cleanup_errors=True)
        return os.path.join(self._folder.name, "store")

    def _watch(self) -> None:
        """In a thread, with NCCL alone: a pass that waits for a process which has ended would wait for ever."""
        wait([process.sentinel for process in self._processes])
        if not self._closing:
            time.sleep(GRACE)
            dist.distributed_c10d._abort_process_group()

    def _end(self, kill: bool) -> None:
        self._closing = True
        for pipe in self._pipes:
            self._send(pipe, pickle.dumps(None))
        for process in self._processes:
            process.join(0 if kill else 30)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()
        # NCCL would wait for those that have been killed; the end of this process ends it too
        if self._grouped and dist.is_initialized() and not (kill and self._device.type == "cuda"):
            dist.destroy_process_group()
        if self._folder is not None:
            self._folder.cleanup()


def _store(path: str, count: int) -> Any:
    """Where the processes find each other; never a TCPStore, which listens to the whole network."""
    if count == 1:
        return dist.HashStore()  # type: ignore[attr-defined]
    return dist.FileStore(path, count)  # type: ignore[attr-defined]


def _join(store: Any, rank: int, count: int, device: torch.device) -> None:
    """Enter the group."""
    place, backend = None, "gloo"
    if device.type == "cuda":
        place, backend = torch.device("cuda", rank if count > 1 else device.index or 0), "nccl"
        torch.cuda.init()  # type: ignore[no-untyped-call]  # a mesh would choose a device of its own before that
        torch.cuda.set_device(place)
    late = timedelta(minutes=30)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=late, device_id=place)


def _follow(pipe: Connection, rank: int, count: int, path: str, device: str, threads: int) -> None:
    """Another process's main: says None when it is there, then does what it is told until it is told None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    torch.set_num_threads(threads)
    logging.basicConfig(format="%(message)s")
    try:
        store = _store(path, count)
        pipe.send(None)
        pipe.recv_bytes()
        _join(store, rank, count, torch.device(device))
        _obey(_orders(pipe), Ranks(rank, count))
        dist.destroy_process_group()
    except (EOFError, OSError):
        os._exit(1)  # the parent has gone
    except TurngymError as error:
        _report(pipe, portable(error))
    except torch.OutOfMemoryError:
        _report(pipe, Failure(f"learner process {rank}: {FULL}"))
    except Exception:  # whatever it was, the parent must learn of it rather than wait
        _report(pipe, Failure(f"learner process {rank} failed:\n{traceback.format_exc()}"))


def _report(pipe: Connection, error: Exception) -> None:
    """Say why, and leave at once: torn down in order, the group would wait for the others."""
    with suppress(OSError):
        pipe.send(error)
    os._exit(1)


def _obey(next_order: Callable[[], Any], ranks: Ranks) -> None:
    learner: Learner | None = None
    while (order := next_order()) is not None:
        method, arguments = order
        if not method:
            learner = None  # before the next is made: there may not be room for both
            learner = arguments[0].learner(ranks)
            continue
        done = getattr(learner, method)(*arguments)
        if method == "tensors":
            for _ in done:
                pass


def _orders(pipe: Connection) -> Callable[[], Any]:
    """Orders as they come; the end of the parent ends this process, also amid a pass."""
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def receive() -> None:
        while True:
            try:
                inbox.put(pipe.recv_bytes())
            except (EOFError, OSError):
                os._exit(1)

    threading.Thread(target=receive, daemon=True).start()
    return lambda: pickle.loads(inbox.get())
