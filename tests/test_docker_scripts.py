"""What the images run, run here as processes: the browser, the sites and their health checks."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Error, sync_playwright
from processes import wait

import turngym.envs
from turngym.envs.web.chromium import find, flags

ROOT = Path(turngym.envs.__file__).resolve().parents[1]
BROWSER, HEALTH = ROOT / "docker/browser.sh", ROOT / "docker/health.sh"

# What socat does for browser.sh, for machines without it.
FORWARDER = f"""#!{sys.executable}
import re, socket, sys, threading
listen, to = (int(re.search("[0-9]+$", word.split(",")[0])[0]) for word in sys.argv[1:])
def carry(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
server = socket.create_server(("", listen))
while True:
    one = server.accept()[0]
    try:
        two = socket.create_connection(("127.0.0.1", to))
    except OSError:
        one.close()
        continue
    for pair in ((one, two), (two, one)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
"""

Start = Callable[..., "subprocess.Popen[str]"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def healthy(port: int, path: str = "/json/version") -> bool:
    done = subprocess.run([HEALTH, str(port), path], stderr=subprocess.DEVNULL)
    assert done.returncode in (0, 1)  # Docker knows no others
    return done.returncode == 0


def ours(folder: Path) -> list[str]:
    """The processes that have ``folder`` on their command line."""
    listed = subprocess.run(["ps", "-axww", "-o", "state=,command="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line and line[0] != "Z"]


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def start(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Start]:
    """Runs browser.sh with more variables; what it leaves is ended."""
    tools = tmp_path / "tools"
    tools.mkdir()
    if not shutil.which("socat"):
        (tools / "socat").write_text(FORWARDER)
        (tools / "socat").chmod(0o755)
    known = {"PORT": str(ports[0]), "OWN_PORT": str(ports[1]), "PROFILE": str(tmp_path / "profile"), "CHROMIUM": find()}
    known["PATH"] = f"{tools}:{os.environ['PATH']}"
    begun: list[subprocess.Popen[str]] = []

    def run(**more: str) -> "subprocess.Popen[str]":
        variables = {k: v for k, v in os.environ.items() if k != "SITES_HOST"} | known | more
        process = subprocess.Popen([BROWSER], env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True)
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.terminate()
        process.communicate()
    assert ours(tmp_path) == []


def test_the_browser_answers_at_its_port_until_it_is_told_to_end(start: Start, ports: tuple[int, int]) -> None:
    assert not healthy(ports[0])
    process = start()
    wait(lambda: healthy(ports[0]))
    found = httpx.get(f"http://127.0.0.1:{ports[0]}/json/version", trust_env=False).json()
    assert found["webSocketDebuggerUrl"].startswith(f"ws://127.0.0.1:{ports[0]}/")
    assert not healthy(ports[0], "/nothing")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert not healthy(ports[0])


def test_chromium_itself_listens_on_this_machine_alone(start: Start, ports: tuple[int, int]) -> None:
    """Why there is a forwarder; another address of this machine stands for the world."""
    start()
    wait(lambda: healthy(ports[0]))
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", ports[1]), timeout=5)


@pytest.mark.parametrize("part", ["--user-data-dir=", "TCP-LISTEN:"])
def test_the_end_of_either_part_is_the_end(start: Start, ports: tuple[int, int], tmp_path: Path, part: str) -> None:
    process = start()
    wait(lambda: healthy(ports[0]))
    listed = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    own = (str(tmp_path), f"TCP-LISTEN:{ports[0]}")
    for line in listed.stdout.splitlines():
        if part in line and any(word in line for word in own) and "--type=" not in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    wait(lambda: not ours(tmp_path))


@pytest.mark.parametrize("host", ["a b", "a,b", "~NOTFOUND , MAP * a"])
def test_a_host_that_is_none_is_one_line(start: Start, host: str) -> None:
    process = start(SITES_HOST=host)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (2, f"browser.sh: SITES_HOST is no host name: {host}\n")


class Where(BaseHTTPRequestHandler):
    """Says which address it is at and which host it was asked for."""

    def do_GET(self) -> None:
        address = self.server.server_address[0]
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(f"{self.headers['host']} at {str(address)}".encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def servers() -> Iterator[int]:
    """The port of two servers, at 127.0.0.1 and 127.0.0.2."""
    try:
        second = ThreadingHTTPServer(("127.0.0.2", 0), Where)
    except OSError:
        pytest.skip("this machine has only 127.0.0.1")
    port = second.server_address[1]
    both = [second, ThreadingHTTPServer(("127.0.0.1", port), Where)]
    threads = [threading.Thread(target=server.serve_forever) for server in both]
    for thread in threads:
        thread.start()
    yield port
    for server, thread in zip(both, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("host", "address"), [("127.0.0.2", "127.0.0.2"), (None, "127.0.0.1")])
def test_the_browser_finds_sites_where_it_is_told(
    start: Start, ports: tuple[int, int], servers: int, host: str | None, address: str
) -> None:
    start(**({"SITES_HOST": host} if host else {}))
    wait(lambda: healthy(ports[0]))
    with sync_playwright() as playwright:
        browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{ports[0]}")
        page = browser.new_page()
        page.goto(f"http://shop.7.localhost:{servers}/")
        assert page.inner_text("body") == f"shop.7.localhost:{servers} at {address}"
        for away in (f"http://127.0.0.2:{servers}/", "http://example.com/"):
            with pytest.raises(Error, match="ERR_"):
                page.goto(away)
        browser.close()


def test_the_flags_are_those_of_the_package() -> None:
    script = BROWSER.read_text()
    for flag in flags():
        name, _, value = flag.partition("=")
        if name == "--host-resolver-rules":
            assert f"rules='{value}'" in script
        else:
            assert re.search(rf"^    {re.escape(flag)} \\$", script, re.MULTILINE), flag


def test_a_server_that_says_nothing_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not healthy(silent.getsockname()[1])


def image_packages() -> list[str]:
    (line,) = re.findall(r"pip install --quiet -c constraints.txt (.*)", (ROOT / "docker/sites.Dockerfile").read_text())
    return str(line).split()


def test_the_sites_need_only_what_their_image_holds() -> None:
    """Run with every other dependency of the package out of reach, PyTorch above all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["web"]]
    names = {re.split("[<>=]", word)[0] for word in asked}
    assert set(image_packages()) < names
    absent = names - set(image_packages())
    assert "torch" in absent
    blocked = [name for name, found in packages_distributions().items() if {d.lower() for d in found} & absent]
    assert {"torch", "transformers"} <= set(blocked)
    code = f"import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n"  # importing them fails
    code += "from turngym.trainers.cli import main\nsys.exit(main(['sites', '--port', '0']))\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        port = int(re.findall(r"http://localhost:(\d+)/", line)[0]) if line else 0
        assert port, process.communicate()[1]
        assert healthy(port, "/-/health") and not healthy(port, "/-/nothing")
        for site in ("shop", "forum"):
            page = httpx.get(f"http://127.0.0.1:{port}/", headers={"host": f"{site}.7.localhost"}, trust_env=False)
            assert page.status_code == 200 and site in page.text
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")


def test_no_process_is_left_by_the_forwarder(start: Start, ports: tuple[int, int]) -> None:
    process = start()
    wait(lambda: healthy(ports[0]))
    assert any("TCP-LISTEN" in command for command in all_commands())
    process.terminate()
    process.communicate(timeout=30)
    assert not any(f"TCP-LISTEN:{ports[0]}" in command for command in all_commands())


def all_commands() -> list[str]:
    listed = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()
