"""What a user gets: the wheel, installed outside the checkout, registers, makes and loads everything."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium
import pytest

import turngym.envs

ROOT = Path(turngym.envs.__file__).resolve().parents[1]
ROOMS = ("envs", "wrappers", "agents", "trainers")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command that must succeed; what it printed is in the failure otherwise."""
    variables = os.environ | {"PYTHONSAFEPATH": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | environment
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build folder left in the checkout could add files that are long gone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, source, cwd=out)
    (found,) = out.glob("turngym-*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed to."""
    folder = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder


def python(site: Path, tmp_path: Path, code: str) -> str:
    """The output of ``code`` where only ``site`` holds turngym: the checkout is nowhere on the path."""
    check = f"""
import sys
from pathlib import Path
modules = [m for n, m in sys.modules.items() if n.startswith("turngym.") and getattr(m, "__file__", None)]
assert modules
assert all(Path(m.__file__).is_relative_to({str(site)!r}) for m in modules), [m.__file__ for m in modules]
"""
    return run(sys.executable, "-c", code + check, cwd=tmp_path, PYTHONPATH=str(site), HF_HUB_OFFLINE="1")


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    tree = {
        f"turngym/{file.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for file in (ROOT / room).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(tree - names) == []
    assert sorted(names - tree) == []


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        assert b"MIT License" in archive.read(f"{info}/licenses/LICENSE")
    assert "Requires-Python: >=3.11" in metadata and "License-Expression: MIT" in metadata
    assert "turngym = turngym.trainers.cli:main" in scripts


def test_importing_the_worlds_registers_them_and_each_is_made(site: Path, tmp_path: Path) -> None:
    code = """
import gymnasium as gym
before = set(gym.registry)
import turngym.envs
ids = sorted(name for name in gym.registry if name.startswith("turngym/"))
assert ids and set(gym.registry) - before == set(ids), (ids, set(gym.registry) - before)
for name in ids:
    env = gym.make(name)
    env.reset(seed=0)
    env.close()
    print(name)
"""
    ids = sorted(name for name in gymnasium.registry if name.startswith("turngym/"))
    assert python(site, tmp_path, code).split() == ids


def test_a_world_is_made_without_an_import(site: Path, tmp_path: Path) -> None:
    code = 'import gymnasium\ngymnasium.make("turngym.envs:turngym/WebShop-v0").close()\n'
    python(site, tmp_path, code)


def test_the_embedded_policy_loads(site: Path, tmp_path: Path) -> None:
    code = """
from transformers import AutoModelForCausalLM, AutoTokenizer
from turngym.agents.tiny import BASE
model = AutoModelForCausalLM.from_pretrained(BASE)
tokenizer = AutoTokenizer.from_pretrained(BASE)
ids = tokenizer("red shoes", return_tensors="pt").input_ids
assert model(ids).logits.shape[:2] == ids.shape
"""
    python(site, tmp_path, code)


def test_the_command_line_runs(site: Path, tmp_path: Path) -> None:
    code = "from turngym.trainers.cli import main\nassert main(['--version']) == 0\n"
    assert python(site, tmp_path, code).startswith("turngym ")
