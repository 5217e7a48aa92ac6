"""Environment steps a second with the parser engine on one core, beside a raw walker of the same pages.

    python benchmarks/parser_engine.py

The raw walker sends the same requests through the same transport and lets lexbor parse the answer and find the
links; it makes no observation, no task and no score. Prints one JSON line: medians with minimum and maximum.
"""

import json
import os
import statistics
import time
from collections.abc import Callable

import httpx
import numpy as np
from selectolax.lexbor import LexborHTMLParser

from turngym.envs.web.document import Document
from turngym.envs.web.page import render
from turngym.envs.web.shop import WebShop
from turngym.envs.web.shop.app import ShopSite
from turngym.envs.web.shop.data import grow
from turngym.envs.web.transport import InProcess

ROUNDS, EPISODES = 7, 60


def environment(seed: int) -> int:
    """Gold episodes of all seen templates, reset and score included; the steps taken."""
    world, steps = WebShop(instructions=False), 0
    for episode in range(EPISODES):
        world.reset(seed=1000 * seed + episode)
        over = False
        while not over:
            _, _, terminated, truncated, _ = world.step(world.cheat())
            steps, over = steps + 1, terminated or truncated
    world.close()
    return steps


def walker(seed: int) -> int:
    """Pages of shops through the bare transport and parser; the pages loaded."""
    loaded = 0
    for episode in range(EPISODES):
        site = ShopSite(grow(np.random.default_rng((seed, episode)), "train"))
        transport, url = InProcess(site), "http://raw.localhost/"
        for _ in range(6):
            response = transport.handle_request(httpx.Request("GET", url))
            links = LexborHTMLParser(response.text).css("main a[href]")
            url = "http://raw.localhost" + ((links[0].attributes["href"] or "/") if links else "/")
            loaded += 1
        site.close()
    return loaded


def observation(cards: int = 20) -> float:
    """Milliseconds from HTML to the observation's text, of a page with ``cards`` products."""
    items = "".join(f"<li><a href='/product/{i}'>red chair {i}</a> <p>price {i}</p></li>" for i in range(cards))
    html = f"<html><head><title>shelf</title></head><body><main><ul>{items}</ul></main></body></html>"
    start = time.perf_counter()
    for _ in range(50):
        render(Document(html, "http://raw.localhost/department/garden").page)
    return (time.perf_counter() - start) / 50 * 1e3


def rate(play: Callable[[int], int], seed: int) -> float:
    start = time.perf_counter()
    return play(seed) / (time.perf_counter() - start)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    environment(0), walker(0)
    pairs = [(rate(environment, i), rate(walker, i)) for i in range(1, ROUNDS + 1)]
    print(
        json.dumps(
            {
                "benchmark": "parser_engine",
                "environment_steps_per_second": spread([ours for ours, _ in pairs]),
                "raw_pages_per_second": spread([raw for _, raw in pairs]),
                "ratio": spread([ours / raw for ours, raw in pairs]),
                "observation_ms_20_cards": spread([observation() for _ in range(ROUNDS)]),
            }
        )
    )


if __name__ == "__main__":
    main()
