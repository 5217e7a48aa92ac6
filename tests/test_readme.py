"""Everything that the documentation tells the reader to type is typed here, in its order, in an empty folder.

In blocks marked ``console`` the lines after ``$ `` are commands, a backslash or ``> `` goes on with one, and what
stands beneath is the output, of which ``...`` matches any part. Every line of a ``bash`` block is a command. Each
``python`` block runs by itself; one that begins with ``# NAME.py`` is kept as that file. All blocks of a file share
one folder, whose ``.venv`` is the one the tests run in.
Only what sets up the checkout, runs these very tests or trains for long is not run.
"""

import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import turngym.envs

ROOT = Path(turngym.envs.__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXEMPT = re.compile(
    r"make( (demo|test|test-vllm|install|demo-long|controls))?( [A-Z_]+=\S+)*|git clone .*|cd turngym"
    r"|turngym reproduce .*|turngym train .*--sampler vllm.*|TURNGYM_VLLM_PYTHON=.*|(\S*\b)?pip3? install .*"
)
SECONDS = 600  # a command that hangs is an error


@dataclass(frozen=True)
class Step:
    """A command or a program, and the output shown beneath it, if any."""

    words: str
    output: str = ""
    python: bool = False


def steps(page: str) -> list[Step]:
    """What to run, in its order."""
    found = []
    for kind, body in BLOCK.findall(page):
        if kind == "python":
            found.append(Step(body, python=True))
        elif kind == "console":
            found += console(body)
        else:
            lines = body.replace("\\\n", " ").splitlines()
            found += [Step(line) for line in lines if line.strip() and not line.startswith("#")]
    return [step for step in found if step.python or not EXEMPT.fullmatch(step.words.split(" #")[0].strip())]


def console(body: str) -> list[Step]:
    """The commands of a console block, each with the output beneath it."""
    found: list[Step] = []
    for line in re.sub(r"\s*\\\n(> )?\s*", " ", body).splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:]))
        else:
            assert found, f"output before any command: {line}"
            found[-1] = Step(found[-1].words, f"{found[-1].output}{line}\n")
    return found


def matches(shown: str, real: str) -> bool:
    """Whether ``real`` is what was ``shown``, with ``...`` for any part, ends of lines apart."""
    lines = [line.rstrip() for line in shown.strip().splitlines()]
    pattern = r".*".join(map(re.escape, "\n".join(lines).split("...")))
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in real.strip().splitlines()), re.DOTALL) is not None


def run(step: Step, folder: Path) -> None:
    """Run ``step``; raises AssertionError when it fails or says something else than was shown."""
    if step.python and (name := re.match(r"# (\w+\.py)\n", step.words)):
        (folder / name[1]).write_text(step.words)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-c", step.words] if step.python else ["bash", "-euo", "pipefail", "-c", step.words]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{step.words}\n{done.stdout}{done.stderr}"
    assert not step.output or matches(step.output, done.stdout), f"{step.words}\nsays\n{done.stdout}"


PAGE = """
```console
$ git clone https://example.org/turngym
$ make demo
$ echo one \\
>   two
one two
$ seq 3
1
...
$ true  # silent
```
```text
$ false
```
```bash
# a remark
.venv/bin/pip install turngym
echo a > file
```
```python
print(open("file").read())
```
"""


def test_the_extractor_finds_what_a_reader_would_type() -> None:
    assert steps(PAGE) == [
        Step("echo one two", "one two\n"),
        Step("seq 3", "1\n...\n"),
        Step("true  # silent"),
        Step("echo a > file"),
        Step('print(open("file").read())\n', python=True),
    ]


def test_steps_share_a_folder_and_failures_show(tmp_path: Path) -> None:
    for step in steps(PAGE):
        run(step, tmp_path)
    for wrong in (Step("false"), Step("echo a", "b\n"), Step("raise SystemExit(1)", python=True)):
        with pytest.raises(AssertionError, match=re.escape(wrong.words)):
            run(wrong, tmp_path)


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ("a\nb", "a  \nb\n\n", True),
        ("a ... c", "a b c", True),
        ("...", "anything\nat all", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a.c", "abc", False),
        ("a", "a\nb", False),
    ],
)
def test_dots_match_any_part(shown: str, real: str, same: bool) -> None:
    assert matches(shown, real) == same


def test_every_target_that_the_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for page in PAGES for line in page.read_text().splitlines() for word in made(line)}
    assert named <= targets


def made(line: str) -> list[str]:
    """The targets of a line of shell that runs make."""
    words = line.removeprefix("$ ").split(" #")[0]
    return [] if not words.startswith("make ") else [word for word in shlex.split(words)[1:] if "=" not in word]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_works(page: Path, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    try:
        for step in steps(page.read_text()):
            run(step, tmp_path)
    finally:
        for process in psutil.process_iter():  # what a failed page has left running
            with suppress(psutil.Error):
                if process.cwd() == str(tmp_path):
                    process.kill()
