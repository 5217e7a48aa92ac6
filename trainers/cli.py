"""The command ``turngym``. Each command imports what it needs, so that help and version come at once."""

import errno
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym

from ..envs.errors import Failure, TurngymError, UsageError
from .cli_browsers import browsers_command
from .cli_serve import serve_command
from .cli_sites import sites_command
from .options import Parser, add, apply, build, show, unknown

# settings that a replay of stored episodes reads
REPLAYED = {"out", "lr", "threads", "device", "rehearsal", "max_failures", "dtype", "processes", "checkpointing"}
REPLAYED |= {"lora", "micro_tokens", "reuse"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; what a user may get wrong is one line, never a traceback.

    0: done; 1: something failed on the way; 2: what was asked for cannot be done; 130: stopped by the user;
    141: nobody reads the output any more.
    """
    try:
        code = _dispatch(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes stdout once more when it leaves; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as stop:
        return _complain(f"stopped; {stop}" if str(stop) else "stopped; nothing was saved", 130)
    except Failure as error:
        return _complain(f"error: {error}", 1)
    except TurngymError as error:
        return _complain(f"error: {error}", 2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f": {error.filename}" if error.filename else ""
        return _complain(f"error: {error.strerror}{where}", 2)


def _complain(line: str, code: int) -> int:
    print(f"turngym: {' '.join(line.split())}", file=sys.stderr)
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments:
        print(_usage())
        return 2
    first, rest = arguments[0], arguments[1:]
    if first in ("-h", "--help", "--version"):
        print(f"turngym {version('turngym')}" if first == "--version" else _usage())
        return 0
    if first.startswith("-"):
        raise UsageError(unknown("option", first, ["--help", "--version"]))
    if first not in COMMANDS:
        raise UsageError(unknown("command", first, list(COMMANDS)))
    try:
        return COMMANDS[first][0](rest)
    except SystemExit as leave:  # argparse leaves after --help
        return int(leave.code or 0)


def _usage() -> str:
    lines = ["usage: turngym COMMAND [options]", "       turngym --version", ""]
    lines += [f"  {name:10}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join([*lines, "", "turngym COMMAND --help lists the options of a command."])


def train_command(arguments: Sequence[str]) -> int:
    """``turngym train RECIPE [--field value ...] [--dry-run]``, ``turngym train --resume DIR | --replay DIR``"""
    from .recipes import RUNS

    recipe, rest = _recipe(arguments, RUNS)
    preset = RUNS[recipe]()
    parser = _train_parser(RUNS)
    parser.prog = f"turngym train {recipe}"
    add(parser, preset)
    namespace = parser.parse(rest)
    if namespace.resume is not None and namespace.replay is not None:
        raise UsageError("give --resume or --replay, not both")
    if namespace.resume is not None:
        if "out" in namespace:
            raise UsageError("give --out or --resume, not both: a resumed run goes on in its own folder")
        preset = replace(preset, **_said(namespace.resume, preset), out=namespace.resume)
    if namespace.replay is not None:
        if idle := sorted({name for name in vars(namespace) if hasattr(preset, name)} - REPLAYED):
            said = ", ".join("--" + name.replace("_", "-") for name in idle)
            raise UsageError(f"a replay learns from what is stored: {said} would change nothing")
        preset = replace(preset, **_said(namespace.replay, preset), out=f"{namespace.replay.rstrip('/')}-replay")
    if "program" in namespace:
        from .settings import worldless

        preset = worldless(preset)
    run = apply(preset, namespace)
    from .settings import notes

    for note in notes(run):
        print(f"note: {note}")
    if namespace.dry_run:
        print(show(run))
        return 0
    if namespace.replay is not None:
        from .replay import replay

        _interruptible(lambda: replay(run, namespace.replay), run.out, needs="config.json")
        return 0
    from .run import SETTINGS, train

    hint = f"; go on with: {shlex.join(['turngym', 'train', '--resume', run.out])}"
    _interruptible(lambda: train(run, resume=namespace.resume is not None), run.out, hint, SETTINGS)
    return 0


def _train_parser(runs: Mapping[str, object]) -> Parser:
    parser = Parser("turngym train", "Train by a recipe.", f"recipes: {', '.join(sorted(runs))}")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved run and do nothing")
    parser.add_argument("--resume", metavar="DIR", help="go on from the newest checkpoint in DIR")
    parser.add_argument("--replay", metavar="DIR", help="learn from the episodes stored in DIR, without any world")
    return parser


def _recipe(arguments: Sequence[str], runs: Mapping[str, object]) -> tuple[str, Sequence[str]]:
    """The recipe and the words after it; a run that is resumed or replayed knows its own."""
    if arguments and not arguments[0].startswith("-"):
        if arguments[0] not in runs:
            raise UsageError(unknown("recipe", arguments[0], sorted(runs)))
        return arguments[0], arguments[1:]
    parser = _train_parser(runs)
    parser.usage = "turngym train RECIPE [options]; turngym train RECIPE --help lists the options"
    if any(word in ("-h", "--help") for word in arguments):
        parser.parse(["--help"])
    known, _ = parser.parse_known_args(list(arguments))
    folder = known.resume or known.replay
    if folder is None:
        raise UsageError(f"the recipe comes first: turngym train RECIPE [options]; {parser.epilog}")
    name = _read(folder).get("name")
    if name not in runs:
        raise UsageError(f"{folder}/run.json names no recipe of this command: turngym train RECIPE --resume {folder}")
    return str(name), arguments


def eval_command(arguments: Sequence[str]) -> int:
    """``turngym eval --env ID --agent FOLDER|random|gold ... [--json FILE]``"""
    from .evaluate import Evaluation, evaluate
    from .files import write_text
    from .report import table

    parser = Parser("turngym eval", "Play episodes and report the share of successes with its interval.")
    add(parser, Evaluation)
    parser.add_argument("--json", metavar="FILE", help="write the report to FILE as well")
    namespace = parser.parse(arguments)
    evaluation = build(Evaluation, namespace)
    report = evaluate(evaluation)
    print(table({evaluation.agent: report}))
    if namespace.json is not None:
        write_text(namespace.json, json.dumps(report.to_json(), indent=2) + "\n")
    return 0


def pretrain_command(arguments: Sequence[str]) -> int:
    """``turngym pretrain [--field value ...]``"""
    from .pretrain import Pretrain, pretrain

    parser = Parser("turngym pretrain", "Make the embedded policy from nothing.")
    add(parser, Pretrain)
    settings = build(Pretrain, parser.parse(arguments))
    _interruptible(lambda: pretrain(settings), settings.out)
    return 0


def demo_command(arguments: Sequence[str]) -> int:
    """``turngym demo [--long] [--out DIR]``"""
    from .demo import Demo, demo, plan

    parser = Parser("turngym demo", "Measure the embedded policy, train it on the web shop, measure it again.")
    add(parser, Demo)
    settings = build(Demo, parser.parse(arguments))
    _interruptible(lambda: demo(settings), plan(settings).out, "; the same command goes on from there")
    return 0


def controls_command(arguments: Sequence[str]) -> int:
    """``turngym controls``"""
    from .controls import Controls, controls

    parser = Parser("turngym controls", "Run what the demo is compared with.")
    add(parser, Controls)
    settings = build(Controls, parser.parse(arguments))
    _interruptible(lambda: controls(settings), settings.out)
    return 0


def reproduce_command(arguments: Sequence[str]) -> int:
    """``turngym reproduce PAPER [--seed S] [--json FILE]``"""
    from .reproduce import Reproduction, reproduce
    from .reproductions import PAPERS

    papers = f"papers: {', '.join(PAPERS)}"
    parser = Parser("turngym reproduce PAPER", "Hold a paper's claims against runs of our own.", papers)
    add(parser, Reproduction)
    parser.add_argument("--json", metavar="FILE", help="write the claims to FILE as well")
    if not arguments or arguments[0].startswith("-"):
        parser.parse([word for word in arguments if word in ("-h", "--help")])
        raise UsageError(f"the paper comes first: turngym reproduce PAPER [options]; {papers}")
    namespace = parser.parse(arguments[1:])
    settings = build(Reproduction, namespace)
    place = settings.out or f"runs/reproduce/{arguments[0]}"
    again = "; the same command goes on from there"
    _interruptible(lambda: reproduce(arguments[0], settings, PAPERS, namespace.json), place, again)
    return 0


def study_command(arguments: Sequence[str]) -> int:
    """``turngym study [--seeds 5] [--claims PATTERN] [--json FILE] [--out FOLDER]``"""
    from .bank.study import Questions, study

    parser = Parser("turngym study", "Hold what papers say of their algorithms against runs on a bank of tasks.")
    add(parser, Questions)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    namespace = parser.parse(arguments)
    study(build(Questions, namespace), namespace.json)
    return 0


def recipes_command(arguments: Sequence[str]) -> int:
    """``turngym recipes [--json]``"""
    from .catalog import recipes_command as command

    return command(arguments)


def envs_command(arguments: Sequence[str]) -> int:
    """``turngym envs``"""
    Parser("turngym envs", "List the ids that gymnasium.make takes.").parse(arguments)
    print("\n".join(sorted(name for name in gym.registry if name.startswith("turngym/"))))
    return 0


def _said(folder: str, preset: Any) -> dict[str, Any]:
    """The settings of the run in ``folder``, which need not be said again: all but its place and its recipe.

    A recipe that rehearses no demonstrations learns from the episodes of one that does.
    """
    own = {"out", "name"} | ({"rehearsal"} if not getattr(preset, "rehearsal", 1) else set())
    said = {name: value for name, value in _read(folder).items() if name not in own}
    if strange := sorted(name for name in said if not hasattr(preset, name)):
        raise UsageError(f"{folder}/run.json is another version's: it has {', '.join(strange)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def _read(folder: str) -> dict[str, Any]:
    if not Path(folder).is_dir():
        raise UsageError(f"there is no run in {folder}: it is no folder")
    try:
        return dict(json.loads((Path(folder) / "run.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise UsageError(f"there is no run in {folder}: it has no readable run.json") from error


def _interruptible(job: Callable[[], object], out: str, hint: str = "", needs: str = "") -> None:
    """Do ``job``; when the user stops it, say what is left in the folder ``out``, if the file it ``needs`` is there."""
    try:
        job()
    except KeyboardInterrupt:
        if (Path(out) / needs).exists() and any(Path(out).iterdir()):
            raise KeyboardInterrupt(f"what was done is saved in {out}{hint}") from None
        raise


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "train": (train_command, "train by a recipe"),
    "eval": (eval_command, "measure an agent in an environment"),
    "pretrain": (pretrain_command, "make the embedded policy from nothing"),
    "demo": (demo_command, "measure, train and measure again on the embedded web shop"),
    "reproduce": (reproduce_command, "hold a paper's claims against runs of our own"),
    "study": (study_command, "hold what papers say of their algorithms against a bank of tasks"),
    "controls": (controls_command, "what the demo is compared with"),
    "envs": (envs_command, "list the environments"),
    "recipes": (recipes_command, "list the recipes, with paper and parts"),
    "browsers": (browsers_command, "start, ask or end browsers for the remote engine"),
    "serve": (serve_command, "serve a model as OpenAI's API does"),
    "sites": (sites_command, "serve the embedded sites"),
}
