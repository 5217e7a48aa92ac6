"""Environment steps a second with the parser engine on one core, beside raw httpx with the same parser.

    python benchmarks/parser_engine.py

The raw walker replays the very requests of the same episodes with an ``httpx.Client`` against the same sites in
process, lets lexbor parse every answer, and reads from it what an agent needs: the words of the page and of its links,
buttons and boxes. It checks no action, keeps no state of forms, numbers nothing, and judges nothing. Prints one JSON
line: medians with minimum and maximum.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import httpx
from selectolax.lexbor import LexborHTMLParser

from turngym.envs.web import Place, Site
from turngym.envs.web.document import Document
from turngym.envs.web.engine import Make, Receive, Scope, Send
from turngym.envs.web.page import render
from turngym.envs.web.parser_engine import ParserEngine
from turngym.envs.web.suite import WebSuite
from turngym.envs.web.transport import InProcess
from turngym.trainers.machine import machine

ROUNDS, EPISODES = 7, 80
CONTROLS = "a[href], button, input, select, textarea"


@dataclass
class Log:
    """What one episode asked its sites: (site, method, target, body), and after how many requests its steps ended."""

    sites: Mapping[str, Make]
    requests: list[tuple[str, str, str, bytes]] = field(default_factory=list)


@dataclass
class Recorder:
    """A site that writes down what it is asked."""

    site: Site
    name: str
    log: Log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")
        target = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        self.log.requests.append((self.name, scope["method"], target, body))

        async def again() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        await self.site(scope, again, send)

    def state(self) -> object:
        return self.site.state()

    def close(self) -> None:
        self.site.close()


class Recording(ParserEngine):
    """The parser engine, keeping a log of each episode."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: list[Log] = []

    def open(self, sites: Mapping[str, Make], places: tuple[Place, ...]) -> object:  # type: ignore[override]
        log = Log(sites)
        self.logs.append(log)
        recorded = {n: partial(lambda name, make: Recorder(make(), name, log), n, m) for n, m in sites.items()}
        return super().open(recorded, places)


def environment(world: WebSuite, seed: int) -> int:
    """Gold episodes of all seen templates, reset and score included; the steps taken."""
    steps = 0
    for episode in range(EPISODES):
        world.reset(seed=1000 * seed + episode)
        over = False
        while not over:
            _, _, terminated, truncated, _ = world.step(world.cheat())
            steps, over = steps + 1, terminated or truncated
    return steps


def walker(logs: list[Log]) -> None:
    """The same requests with a plain client and the same parser."""
    for log in logs:
        sites = {name: make() for name, make in log.sites.items()}
        clients = {
            name: httpx.Client(transport=InProcess(site), base_url=f"http://{name}.raw.localhost")
            for name, site in sites.items()
        }
        for name, method, target, body in log.requests:
            headers = {"content-type": "application/x-www-form-urlencoded"} if method == "POST" else {}
            response = clients[name].request(method, target, content=body, headers=headers)
            if response.has_redirect_location:
                continue  # what it leads to is the next request
            tree = LexborHTMLParser(response.text)
            words = tree.body.text(separator=" ") if tree.body else ""
            " ".join(words.split()), [" ".join(n.text().split()) for n in tree.css(CONTROLS)]
        for name, site in sites.items():
            clients[name].close()
            site.close()


def resets(world: WebSuite, name: str, seed: int, count: int = 100) -> float:
    """Milliseconds of a reset, the first observation included."""
    start = time.perf_counter()
    for i in range(count):
        world.reset(seed=1000 * seed + i, options={"template": name})
    return (time.perf_counter() - start) / count * 1e3


def observation(cards: int = 20) -> float:
    """Milliseconds from HTML to the observation's text, of a page with ``cards`` products."""
    items = "".join(f"<li><a href='/product/{i}'>red chair {i}</a> <p>price {i}</p></li>" for i in range(cards))
    html = f"<html><head><title>shelf</title></head><body><main><ul>{items}</ul></main></body></html>"
    start = time.perf_counter()
    for _ in range(50):
        render(Document(html, "http://raw.localhost/department/garden").page)
    return (time.perf_counter() - start) / 50 * 1e3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    world, rates, ratios = WebSuite(instructions=False), [], []
    environment(world, 0)
    for i in range(1, ROUNDS + 1):
        recording = Recording()
        recorded = WebSuite(instructions=False, engine=recording)
        steps = environment(recorded, i)
        recorded.close()
        raw = seconds(partial(walker, recording.logs))
        ours = seconds(partial(environment, world, i))
        rates.append(steps / ours)
        ratios.append(raw / ours)
    figures = {
        "benchmark": "parser_engine",
        "environment_steps_per_second": spread(rates),
        "ratio_to_raw_httpx": spread(ratios),
        "reset_ms_shop": spread([resets(world, "add_one", i) for i in range(ROUNDS)]),
        "reset_ms_forum": spread([resets(world, "vote_one", i) for i in range(ROUNDS)]),
        "reset_ms_two_sites": spread([resets(world, "vote_and_add", i) for i in range(ROUNDS)]),
        "observation_ms_20_cards": spread([observation() for _ in range(ROUNDS)]),
    }
    world.close()
    print(json.dumps(figures | {"machine": machine()}))


if __name__ == "__main__":
    main()
