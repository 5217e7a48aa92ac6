"""The files of the images: they pass linters, lock the containers in, and agree with each other and the package."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import turngym.envs
from turngym.envs.web.containers import IMAGE, LIMITS, PORT

ROOT = Path(turngym.envs.__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SCRIPTS = sorted(DOCKER.glob("*.sh"))
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVED = sorted(COMPOSE["services"])


def tool(name: str) -> str:
    """A linter that the extra ``dev`` installs beside Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed: make install"
    return found


def lint(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_dockerfiles_pass_the_linter(file: Path) -> None:
    lint(tool("hadolint"), "--no-color", file)


def test_scripts_pass_the_linter() -> None:
    lint(tool("shellcheck"), *SCRIPTS)


def test_compose_fits_its_schema() -> None:
    lint(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")


def test_the_linters_find_what_they_should(tmp_path: Path) -> None:
    for name, text, command in (
        ("a.Dockerfile", "FROM debian\nRUN sudo ls\n", ["hadolint"]),
        ("a.sh", "#!/bin/bash\nrm $1\n", ["shellcheck"]),
        (
            "a.yaml",
            "services: {a: {mem_limits: 2g}}\n",
            ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"],
        ),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(AssertionError):
            lint(tool(command[0]), *command[1:], tmp_path / name)


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, its words) of a Dockerfile, in order."""
    text = re.sub(r"(?m)^#.*\n", "", file.read_text()).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_images_run_as_an_ordinary_user(file: Path) -> None:
    found = instructions(file)
    users = [rest for word, rest in found if word == "USER"]
    assert users == ["1000:1000"]
    after = found[found.index(("USER", "1000:1000")) :]
    assert {word for word, _ in after} <= {"USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert any(word == "RUN" and "useradd --uid 1000" in rest for word, rest in found)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_images_copy_what_is_there(file: Path) -> None:
    context = DOCKER if file.name == "browser.Dockerfile" else ROOT
    shown = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in instructions(file):
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (context / source).exists(), source
                assert context == DOCKER or f"!{source.split('/')[0]}" in shown, source


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_may_be_run(file: Path) -> None:
    assert os.access(file, os.X_OK)


def test_versions_are_those_of_the_package() -> None:
    least = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    for file in DOCKERFILES:
        (image,) = (rest for word, rest in instructions(file) if word == "FROM")
        name, version = re.fullmatch(r"(python|debian):([a-z0-9.]+?)(?:-slim)?(?:-bookworm|-slim)", image).groups()  # type: ignore[union-attr]
        assert (version == "bookworm") if name == "debian" else tuple(map(int, version.split("."))) >= least


@pytest.mark.parametrize("name", SERVED)
def test_services_are_locked_in(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] == service["memswap_limit"] and service["pids_limit"] > 0
    assert {mount.split(":")[0] for mount in service["tmpfs"]} >= {"/tmp"}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not set(service) & {"privileged", "volumes", "network_mode", "pid", "ipc", "user"}


@pytest.mark.parametrize("name", SERVED)
def test_compose_and_dockerfile_agree(name: str) -> None:
    service = COMPOSE["services"][name]
    build = service["build"]
    file = (DOCKER / build["context"] / build["dockerfile"]).resolve()
    found = instructions(file)
    said = dict(found)
    test = service["healthcheck"]["test"]
    assert said["HEALTHCHECK"].split("CMD ")[1] == "[" + ", ".join(f'"{word}"' for word in test[1:]) + "]"
    for key in ("interval", "timeout", "start_period"):
        assert f"--{key.replace('_', '-')}={service['healthcheck'][key]}" in said["HEALTHCHECK"]
    assert service["ports"] == [f"127.0.0.1:{said['EXPOSE']}:{said['EXPOSE']}"]
    assert test[2] == said["EXPOSE"]
    context = (DOCKER / build["context"]).resolve().relative_to(ROOT)
    assert f"docker build -f docker/{file.name} -t {service['image']} {context}\n" in file.read_text()


def test_the_command_sets_the_limits_of_compose() -> None:
    service = COMPOSE["services"]["browser"]
    assert set(LIMITS) == {
        "--read-only",
        *(f"--tmpfs={mount}" for mount in service["tmpfs"]),
        f"--shm-size={service['shm_size']}",
        f"--memory={service['mem_limit']}",
        f"--memory-swap={service['memswap_limit']}",
        f"--pids-limit={service['pids_limit']}",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
    }
    assert (service["image"], service["ports"]) == (IMAGE, [f"127.0.0.1:{PORT}:{PORT}"])
