"""Finished phases of a long command as JSON files, so that a second start goes on after them."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..envs import UsageError
from .evaluate import Evaluation, evaluate
from .files import write_text
from .report import Report, from_json
from .run import SETTINGS, train
from .settings import Run, scalars


class Parts:
    """The phases in ``folder``; ``seconds`` of each that was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds = folder, dict[str, float]()

    def claim(self, *runs: Run) -> None:
        """Marks the folder as these runs'; raises UsageError when it holds the phases of others."""
        file = self.folder / "settings.json"
        ours = json.dumps([scalars(run) for run in runs], indent=2) + "\n"
        if file.is_file() and file.read_text() != ours:
            raise UsageError(
                f"{self.folder.parent} holds a run with other settings: remove it, or choose another --out"
            )
        write_text(file, ours)

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``make()`` gave when the phase was done."""
        file = self.folder / f"{name}.json"
        if file.is_file():
            part: dict[str, Any] = json.loads(file.read_text())
        else:
            start = time.monotonic()
            part = {"value": make(), "seconds": time.monotonic() - start}
            write_text(file, json.dumps(part) + "\n")
        self.seconds[name] = part["seconds"]
        value: dict[str, Any] = part["value"]
        return value

    def report(self, name: str, evaluation: Evaluation) -> Report:
        """An evaluation, said on the way."""

        def make() -> dict[str, Any]:
            place = "Chromium" if evaluation.engine == "browser" else "the parser engine"
            print(f"{name}: {evaluation.episodes} episodes in {place} …", flush=True)
            return evaluate(evaluation).to_json()

        found = replace(from_json(self.get(name, make)), seconds=self.seconds[name])
        print(f"{name}: {found.success}", flush=True)
        return found

    def train(self, name: str, run: Run) -> dict[str, Any]:
        """A training run, or the rest of one that was interrupted; seconds of the warm-up and of RL."""

        def make() -> dict[str, Any]:
            done = train(run, resume=(Path(run.out) / SETTINGS).is_file())
            return {"warmup_seconds": done.warmup_seconds, "seconds": done.seconds}

        trained = self.get(name, make)
        print(f"{name}: training took {trained['warmup_seconds'] + trained['seconds']:.0f} s", flush=True)
        return trained
