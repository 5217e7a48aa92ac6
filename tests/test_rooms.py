"""The house rules: imports flow one way, everything ships, nothing is imported twice, files stay small."""

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import turngym.envs

ROOT = Path(turngym.envs.__file__).resolve().parents[1]
ROOMS = ("envs", "wrappers", "agents", "trainers")  # each may import only itself and those before it
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SOURCES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imports(source: str, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The absolute dotted names that ``source``, a module of ``package``, imports anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= len(package), f"line {node.lineno} leaves the package"
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield tuple(str(first.value).split("."))


def violations(source: str, package: tuple[str, ...]) -> list[str]:
    """The imports of ``source`` that a module of ``package``, say ("turngym", "agents"), may not have."""
    allowed = ROOMS[: ROOMS.index(package[1]) + 1]
    wrong = []
    for name in imports(source, package):
        inside = name[0] == "turngym" and (len(name) == 1 or name[1] not in allowed)
        # A room as a top-level package is the same code imported a second time.
        if inside or name[0] in ROOMS:
            wrong.append(".".join(name))
    return wrong


def package_of(file: Path) -> tuple[str, ...]:
    return ("turngym", *file.parent.relative_to(ROOT).parts)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ..envs import Message", []),
        ("from .core import Turn", []),
        ("from .. import wrappers", []),
        ("import torch\nfrom os import path", []),
        ("import turngym.envs.web", []),
        ("from .. import trainers", ["turngym.trainers"]),
        ("from ..trainers import Batch", ["turngym.trainers.Batch"]),
        ("from ..trainers.batch import Batch", ["turngym.trainers.batch.Batch"]),
        ("import turngym.trainers.batch as b", ["turngym.trainers.batch"]),
        ("import numpy, turngym.trainers", ["turngym.trainers"]),
        ("from turngym.trainers import Batch", ["turngym.trainers.Batch"]),
        ("from turngym import envs, trainers", ["turngym.trainers"]),
        ("import turngym", ["turngym"]),
        ("from envs import Message", ["envs.Message"]),
        ("def f():\n    from ..trainers import Batch", ["turngym.trainers.Batch"]),
        ("if TYPE_CHECKING:\n    from ..trainers import Batch", ["turngym.trainers.Batch"]),
        ("import importlib\nimportlib.import_module('turngym.trainers')", ["turngym.trainers"]),
        ("from importlib import import_module\nimport_module('turngym.trainers')", ["turngym.trainers"]),
    ],
)
def test_the_checker_finds_what_it_should(source: str, found: list[str]) -> None:
    assert violations(source, ("turngym", "agents")) == found


def test_the_checker_resolves_dots_from_inner_packages() -> None:
    inner = ("turngym", "agents", "tiny")
    assert violations("from ...trainers import Batch", inner) == ["turngym.trainers.Batch"]
    assert violations("from ..core import Turn\nfrom ...envs import user", inner) == []
    with pytest.raises(AssertionError, match="leaves the package"):
        violations("from .... import x", inner)


def test_imports_flow_one_way() -> None:
    wrong = {str(f): violations(f.read_text(), package_of(f)) for f in SOURCES}
    assert {file: names for file, names in wrong.items() if names} == {}


def test_every_package_ships() -> None:
    found = {".".join(package_of(file)) for file in SOURCES}
    assert sorted(SETUP["packages"]) == sorted(found)
    assert all((ROOT.joinpath(*name.split(".")[1:]) / "__init__.py").exists() for name in found)


def shipped(package: str, patterns: list[str]) -> set[Path]:
    folder = ROOT.joinpath(*package.split(".")[1:])
    return {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}


def test_every_data_file_ships() -> None:
    found = {
        file
        for room in ROOMS
        for file in (ROOT / room).rglob("*")
        if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts
    }
    everywhere = SETUP["package-data"]["*"]
    own = {name: patterns for name, patterns in SETUP["package-data"].items() if name != "*"}
    assert set(own) <= set(SETUP["packages"])
    listed = {file for package in SETUP["packages"] for file in shipped(package, everywhere + own.get(package, []))}
    assert sorted(found - listed) == []


def test_every_pattern_of_package_data_finds_something() -> None:
    own = [(name, p) for name, patterns in SETUP["package-data"].items() if name != "*" for p in patterns]
    assert [(name, pattern) for name, pattern in own if not shipped(name, [pattern])] == []


def modules() -> list[str]:
    names = [".".join((*package_of(file), file.stem)) for file in SOURCES]
    return [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_and_exports_what_it_says(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert list(exported) == sorted(set(exported))
    assert [attribute for attribute in exported if not hasattr(module, attribute)] == []


def test_nothing_is_imported_twice() -> None:
    for name in modules():
        importlib.import_module(name)
    ours: dict[Path, set[str]] = {}
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/").resolve()
        if any(file.is_relative_to(ROOT / room) for room in ROOMS):
            ours.setdefault(file, set()).add(name)
    assert set(ours) <= set(SOURCES) and ours
    twice = {file: names for file, names in ours.items() if len(names) > 1}
    elsewhere = {name for names in ours.values() for name in names if not name.startswith("turngym.")}
    assert (twice, elsewhere) == ({}, set())


def test_the_links_for_type_checkers_are_right() -> None:
    links = {link.name: link.readlink() for link in (ROOT / ".typing" / "turngym").iterdir()}
    assert links == {room: Path("..") / ".." / room for room in ROOMS}


@pytest.mark.parametrize("file", SOURCES + TESTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_stay_small(file: Path) -> None:
    source = file.read_text()
    assert len(source.splitlines()) <= 300
    long = [
        f"{node.name} (line {node.lineno})"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > 60
    ]
    assert long == []
