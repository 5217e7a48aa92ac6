"""Episodes on disk: compressed JSON lines, one file an update, whole or absent; what a replay learns from."""

import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..agents import Action, Call, Request, Sample, Turn
from ..envs import CheckpointError, Image, Message, Messages, Text, ToolCall
from .files import write_bytes
from .rollout import Group, Spec, Trajectory

SCHEMA = 1
FOLDER, DEMONSTRATIONS = "episodes", "demonstrations"
Json = dict[str, Any]


class Dump:
    """The folder ``episodes`` of a run; files of updates after ``resume_step`` are removed when it is opened."""

    def __init__(self, out: Path | str, resume_step: int = 0) -> None:
        self.folder = Path(out) / FOLDER
        for step, file in _steps(self.folder):
            if step > resume_step:
                file.unlink()

    def write(self, step: int, groups: Sequence[Group], steps: int) -> None:
        """The groups that update ``step`` of a run of ``steps`` learned from."""
        lines = [
            {"spec": asdict(g.spec), "trajectories": [trajectory_to_json(t) for t in g.trajectories]} for g in groups
        ]
        _write(self.folder / f"{step:06d}.jsonl.gz", lines, steps=steps)

    def demonstrations(self, trajectories: Sequence[Trajectory]) -> None:
        _write(self.folder / f"{DEMONSTRATIONS}.jsonl.gz", [trajectory_to_json(t) for t in trajectories])


@dataclass(frozen=True, slots=True)
class Update:
    """What update ``step`` learned from; ``steps`` is how many the run was to have then: its decay went by that."""

    step: int
    steps: int
    groups: tuple[Group, ...]


def count(out: Path | str) -> int:
    """How many updates are stored. Raises CheckpointError where there is a gap."""
    found = [step for step, _ in _steps(Path(out) / FOLDER)]
    if found != [*range(1, len(found) + 1)]:
        raise CheckpointError(f"{Path(out) / FOLDER} lacks the episodes of some updates, so it cannot be replayed")
    return len(found)


def stored(out: Path | str) -> Iterator[Update]:
    """The updates in their order, one in memory at a time. Raises CheckpointError for a file that cannot be read."""
    for step, file in _steps(Path(out) / FOLDER):
        head, lines = _read(file)
        groups = (Group(Spec(**g["spec"]), tuple(map(trajectory_from_json, g["trajectories"]))) for g in lines)
        yield Update(step, head["steps"], tuple(groups))


def demonstrations(out: Path | str) -> list[Trajectory]:
    """The demonstrations that the run in ``out`` cloned; raises CheckpointError when there is no such file."""
    return [trajectory_from_json(line) for line in _read(Path(out) / FOLDER / f"{DEMONSTRATIONS}.jsonl.gz")[1]]


def trajectory_to_json(t: Trajectory) -> Json:
    """All that learning reads, and all that was said; of a turn's info what JSON can hold."""
    return {
        "id": t.id, "task": t.task, "seed": t.seed, "group": t.group, "member": t.member, "attempt": t.attempt,
        "seat": t.seat, "source": t.source, "outcome": t.outcome, "final": _messages(t.final),
        "turns": [
            {
                "observation": _messages(turn.observation), "text": turn.action.text,
                "calls": [_call(c) for c in turn.action.calls], "reward": turn.reward, "info": _plain(turn.info),
            }
            for turn in t.turns
        ],
    }  # fmt: skip


def trajectory_from_json(said: Json) -> Trajectory:
    turns = tuple(
        Turn(_said(t["observation"]), Action(t["text"], tuple(map(_called, t["calls"]))), t["reward"], t["info"])
        for t in said["turns"]
    )
    return Trajectory(**(said | {"turns": turns, "final": _said(said["final"])}))


def _messages(messages: Messages) -> list[Json]:
    out = []
    for m in messages:
        parts = [m.content] if isinstance(m.content, str) else [_part(p) for p in m.content]
        said: Json = {"role": m.role, "content": parts[0] if isinstance(m.content, str) else parts}
        if m.tool_calls:
            said["tool_calls"] = [{"id": c.id, "name": c.name, "arguments": list(c.arguments)} for c in m.tool_calls]
        if m.tool_call_id is not None:
            said["tool_call_id"] = m.tool_call_id
        out.append(said)
    return out


def _part(part: Text | Image) -> Json:
    return {"text": part.text} if isinstance(part, Text) else {"png": base64.b64encode(part.png).decode()}


def _said(messages: Sequence[Json]) -> Messages:
    return tuple(
        Message(
            m["role"],
            m["content"]
            if isinstance(m["content"], str)
            else tuple(Text(p["text"]) if "text" in p else Image(base64.b64decode(p["png"])) for p in m["content"]),
            tuple(
                ToolCall(c["id"], c["name"], tuple((k, v) for k, v in c["arguments"])) for c in m.get("tool_calls", ())
            ),
            m.get("tool_call_id"),
        )
        for m in messages
    )


def _call(call: Call) -> Json:
    r, s = call.request, call.sample
    request = {
        "ids": r.ids, "max_tokens": r.max_tokens, "stop": r.stop, "temperature": r.temperature, "top_k": r.top_k,
        "top_p": r.top_p, "seed": r.seed, "session": r.session,
    }  # fmt: skip
    sample = {"tokens": s.tokens, "logps": s.logps, "versions": s.versions, "finish": s.finish}
    return {"policy": call.policy, "request": request, "sample": sample}


def _called(said: Json) -> Call:
    request, sample = (
        {k: tuple(v) if isinstance(v, list) else v for k, v in said[part].items()} for part in ("request", "sample")
    )
    return Call(said["policy"], Request(**request), Sample(**sample))  # type: ignore[arg-type]


def _plain(info: Mapping[str, Any]) -> Json:
    return {key: value for key, value in info.items() if _json(value)}


def _json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _json(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_json, value))
    return value is None or isinstance(value, bool | int | float | str)


def _write(file: Path, lines: Sequence[Json], **more: int) -> None:
    head = {"schema": SCHEMA, "turngym": "episodes"} | more
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in (head, *lines))
    write_bytes(file, gzip.compress(text.encode(), compresslevel=3, mtime=0))


def _read(file: Path) -> tuple[Json, list[Json]]:
    try:
        head, *lines = (json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines())
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise CheckpointError(f"cannot read episodes from {file}: {error}") from error
    if head.get("schema") != SCHEMA:
        raise CheckpointError(f"{file} is of schema {head.get('schema')}; this turngym reads {SCHEMA}")
    return head, lines


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """Files of updates by number."""
    return sorted((int(file.name.split(".")[0]), file) for file in folder.glob("[0-9]*.jsonl.gz"))
