"""Programs that somebody else wrote: a process an episode, which asks the policy over the proxy and reports reward."""

import asyncio
import logging
import os
import shlex
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from ..agents.chat import Decoding, Prompter
from ..agents.core import Sampler
from ..agents.proxy import Budget, Episode, Proxy
from ..envs import AgentError, EnvError, Failure, UsageError
from .rollout import Outcome, Spec, Trajectory, within

LEAVING = 10.0  # seconds that a program may take to leave once it has reported its finish
SAID = 300  # characters of a program's last words in a message
# Leads a process group of its own: a watcher, orphaned at once so that it is not the program's child, kills the group
# when the player's end of the pipe that was stdin is gone, however the player died; then the program takes its place.
LAUNCH = 'exec 3<&0 </dev/null; ( (read _ <&3; kill -9 0) >/dev/null 2>&1 & ); exec 3<&-; exec "$@"'


def words(command: str) -> list[str]:
    """The words of a command line; raises UsageError for none, and for a program that is not there."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--program {command!r} is no command line: {error}") from error
    if not found:
        raise UsageError("--program is empty: give a command line, such as 'python my_agent.py'")
    if shutil.which(found[0]) is None:
        raise UsageError(f"--program: there is no command {found[0]!r} on the path")
    return found


def trajectory(
    episode: Episode, spec: Spec, member: int = 0, *, attempt: int = 0, error: Failure | None = None
) -> Trajectory:
    """The record of a closed episode as learning takes it.

    Without a finish the outcome is that of ``error``, but ``truncated`` where a limit had been refused before it.
    """
    outcome = episode.outcome if error is None else "truncated" if _cut(episode) else error.outcome
    if outcome is None:
        outcome = "truncated" if episode.limited else "agent_error"
    name = f"{spec.world}.{spec.group}.{member}" + (f".{attempt}" if attempt else "")
    return Trajectory(
        name, spec.task, spec.seed, spec.group, member, episode.turns(), (), cast(Outcome, outcome), attempt=attempt,
        source="greedy" if spec.is_baseline(member) else "policy",
    )  # fmt: skip


@dataclass(slots=True)
class _Words:
    """The end of what a program writes to stderr."""

    tail: bytes = b""

    async def hear(self, stream: asyncio.StreamReader) -> None:
        while part := await stream.read(4096):
            self.tail = (self.tail + part)[-4096:]

    @property
    def last(self) -> str:
        lines = self.tail.decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:SAID] if lines else "it wrote nothing to stderr"


@dataclass(eq=False, slots=True)
class Programs:
    """Plays episodes by starting ``command``; a limit of ``seconds`` an episode, 0 for none. ``close`` ends all."""

    command: str
    sampler: Sampler
    prompter: Prompter
    decoding: Decoding
    requests: int = 0  # replies an episode, 0: no limit
    seconds: float = 0.0
    _proxy: Proxy = field(init=False)
    _begun: "asyncio.Task[tuple[int, int]] | None" = None  # the pipe that every watcher reads: (read, write)
    _running: set[int] = field(default_factory=set)  # process groups

    def __post_init__(self) -> None:
        self._proxy = Proxy(self.sampler, self.prompter)

    async def play(
        self,
        spec: Spec,
        member: int,
        key: tuple[int, ...],
        *,
        attempt: int = 0,
        doing: Callable[[str], None] = lambda what: None,
    ) -> Trajectory:
        """One episode: to the program's end, or to a failure, which becomes the outcome (rule 3).

        ``key`` seeds the policy's random numbers. Raises UsageError alone.
        """
        pipe = await self._start()
        decoding = Decoding(0.0, self.decoding.max_tokens) if spec.takes_likeliest(member) else self.decoding
        session = f"{spec.world}.{spec.group}.{member}.{attempt}"
        episode = self._proxy.open(
            decoding=decoding, seed=key, session=session, budget=Budget(self.requests), doing=doing
        )
        failed: Failure | None = None
        try:
            doing("the program")
            async with within(self.seconds, "the program"):
                await self._run(episode, spec, pipe)
        except Failure as error:
            failed = error
        finally:
            self._proxy.close(episode.key)
        played = trajectory(episode, spec, member, attempt=attempt, error=failed)
        if not played.scored:
            why = failed or "it reported that outcome"
            logging.getLogger("turngym").warning(
                "episode %d.%d of %s: %s: %s", spec.group, member, spec.task, played.outcome, why
            )
        return played

    async def close(self) -> None:
        """End programs and proxy; may be called twice."""
        for group in self._running:
            _kill(group)
        begun, self._begun = self._begun, None
        if begun is not None:
            with suppress(UsageError):  # it could not listen, which play has said
                for end in await begun:
                    os.close(end)
            await self._proxy.stop()

    async def _start(self) -> int:
        """The proxy serves, once; the end of the pipe for watchers."""
        if self._begun is None:
            self._begun = asyncio.ensure_future(self._begin())
        return (await asyncio.shield(self._begun))[0]

    async def _begin(self) -> tuple[int, int]:
        await self._proxy.start()
        return os.pipe()

    async def _run(self, episode: Episode, spec: Spec, pipe: int) -> None:
        """Raises AgentError when the program fails, or ends without having finished its episode."""
        async with self._process(spec, episode, pipe) as (process, said):
            left, over = asyncio.ensure_future(process.wait()), asyncio.ensure_future(episode.ended.wait())
            try:
                await asyncio.wait({left, over}, return_when=asyncio.FIRST_COMPLETED)
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(left), LEAVING)
            finally:
                left.cancel(), over.cancel()
            code = process.returncode
        if code:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise AgentError(f"the program ended {how}: {said.last}")
        if episode.outcome is None:
            raise AgentError(f"the program ended without POST /v1/episode/finish: {episode.failure or said.last}")
        if not episode.exchanges:
            raise AgentError("the program finished without a single reply of the policy: nothing can be learned")

    @asynccontextmanager
    async def _process(self, spec: Spec, episode: Episode, pipe: int) -> AsyncIterator[tuple[Process, _Words]]:
        """The program runs; its whole process group is gone afterwards."""
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                "/bin/sh", "-c", LAUNCH, "sh", *words(self.command), env=self._environment(spec, episode), stdin=pipe,
                stdout=DEVNULL, stderr=PIPE, start_new_session=True,
            )
        )  # fmt: skip
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:  # the process may be there, though nobody was given it
            with suppress(asyncio.CancelledError):
                await _done(starting)
            process = starting.result()
            _kill(process.pid)
            with suppress(asyncio.CancelledError):
                await _done(asyncio.ensure_future(process.communicate()))
            raise
        except OSError as error:  # no memory or no process number is left for it
            raise EnvError(f"the program cannot be started: {error.strerror or error}") from error
        assert process.stderr is not None
        self._running.add(process.pid)
        said = _Words()
        hearing = asyncio.ensure_future(said.hear(process.stderr))
        try:
            yield process, said
        finally:
            _kill(process.pid)  # the watcher lives till now, so the number is still this group's
            self._running.discard(process.pid)
            try:
                await _done(asyncio.ensure_future(process.wait()))
                with suppress(TimeoutError):  # a process that left the group may hold stderr open
                    await asyncio.wait_for(hearing, 1.0)
            finally:
                hearing.cancel()

    def _environment(self, spec: Spec, episode: Episode) -> dict[str, str]:
        """The player's, with the episode's own; a proxy of the network does not know this machine's ports."""
        local = ",".join(filter(None, (os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), "127.0.0.1")))
        return os.environ | {
            "OPENAI_BASE_URL": self._proxy.url,
            "OPENAI_API_KEY": episode.key,
            "TURNGYM_TASK": spec.task,
            "TURNGYM_SEED": str(spec.seed),
            "NO_PROXY": local,
            "no_proxy": local,
        }


def _cut(episode: Episode) -> bool:
    """Whether it was refused for a limit and has not finished."""
    return bool(episode.limited) and episode.outcome is None


async def _done(work: asyncio.Future[Any]) -> None:
    """Wait until it is, however often the one who waits is cancelled; that is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the latter is macOS's word for zombies alone
        os.killpg(group, signal.SIGKILL)
