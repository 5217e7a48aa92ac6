"""Navigation and in-page steps a second in Chromium with 1, 2 and 4 contexts, beside raw Playwright; reset times.

    python benchmarks/browser_engine.py [--rounds 7] [--steps 40]

The raw walker is Playwright's async API in a Chromium of its own: it clicks a link by JavaScript, waits for the page
to load and reads it with one ``evaluate`` of a plain DOM walk; in a page it fills the search box and reads again. It
is launched once as Playwright launches by itself ("raw") and once with our flags ("raw_our_flags"); its pages come
straight from a server of the same kind in the same process, without a proxy. Both walk the same shop. Rounds alternate
between the walkers. Prints one JSON line: medians with minimum and maximum.
"""

import argparse
import asyncio
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import uvicorn
from playwright.async_api import Browser, Page, async_playwright

from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.chromium import fast, find, flags
from turngym.envs.web.engine import Place
from turngym.envs.web.grammar import Do
from turngym.envs.web.page import Page as Shown
from turngym.envs.web.profile import SIZE
from turngym.envs.web.shop.data import grow
from turngym.envs.web.shop.tasks import site
from turngym.envs.web.suite import WebSuite
from turngym.trainers.machine import machine

CONTEXTS = (1, 2, 4)
SHOP = site(grow(np.random.default_rng(0), "train"))
READ = """() => {
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) {
      const text = node.data.trim();
      if (text) found.push(text);
    } else if (["a", "button", "input", "select", "textarea"].includes(node.localName)) {
      found.push([found.length, node.localName, node.textContent.trim(), node.value || ""]);
    }
  }
  return [document.title, location.pathname, found];
}"""
CLICK = "(i) => { const links = document.querySelectorAll('a'); links[i % links.length].click(); }"


class Raw:
    """The raw walker: a browser on a loop of its own, pages straight from ``port``."""

    def __init__(self, args: Sequence[str], port: int) -> None:
        self._port, self._loop = port, asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._browser: Browser = self._do(self._begin(args))
        self._pages = [self._do(self._page()) for _ in range(max(CONTEXTS))]

    def navigate(self, contexts: int, steps: int) -> float:
        return self._do(self._all(contexts, steps, self._navigate))

    def fill(self, contexts: int, steps: int) -> float:
        return self._do(self._all(contexts, steps, self._fill))

    def close(self) -> None:
        self._do(self._browser.close())
        self._do(self._playwright.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _begin(self, args: Sequence[str]) -> Browser:
        self._playwright = await async_playwright().start()
        return await self._playwright.chromium.launch(executable_path=find(), args=list(args))

    async def _page(self) -> Page:
        context = await self._browser.new_context(viewport={"width": SIZE[0], "height": SIZE[1]})
        page = await context.new_page()
        await page.goto(f"http://shop.raw.localhost:{self._port}/")
        return page

    async def _navigate(self, page: Page, i: int) -> None:
        async with page.expect_navigation(wait_until="load"):
            await page.evaluate(CLICK, i)
        await page.evaluate(READ)

    async def _fill(self, page: Page, i: int) -> None:
        await page.fill("input[name=q]", f"words {i}")
        await page.evaluate(READ)

    async def _all(self, contexts: int, steps: int, step: Callable[[Page, int], Coroutine[Any, Any, None]]) -> float:
        async def walk(page: Page) -> None:
            for i in range(steps):
                await step(page, 2 * i + 2)

        begin = time.perf_counter()
        await asyncio.gather(*(walk(page) for page in self._pages[:contexts]))
        return contexts * steps / (time.perf_counter() - begin)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Ours:
    """Our engines, each in a thread, as in a rollout worker."""

    def __init__(self) -> None:
        self._threads = [ThreadPoolExecutor(1) for _ in range(max(CONTEXTS))]
        self._engines = [BrowserEngine() for _ in self._threads]

    def navigate(self, contexts: int, steps: int) -> float:
        return self._all(contexts, steps, self._navigate)

    def fill(self, contexts: int, steps: int) -> float:
        return self._all(contexts, steps, self._fill)

    def close(self) -> None:
        for engine, thread in zip(self._engines, self._threads, strict=True):
            thread.submit(engine.close).result()
            thread.shutdown()

    @staticmethod
    def _open(engine: BrowserEngine) -> Shown:
        return engine.open({"shop": SHOP}, (Place("shop"),))

    @staticmethod
    def _navigate(engine: BrowserEngine, page: Shown, steps: int) -> None:
        for i in range(steps):
            links = [e for e in page.elements if e.kind == "link"]
            page = engine.act(Do("Click", element=links[(2 * i + 2) % len(links)].id))

    @staticmethod
    def _fill(engine: BrowserEngine, page: Shown, steps: int) -> None:
        box = next(e.id for e in page.elements if e.kind == "textbox")
        for i in range(steps):
            engine.act(Do("Type", f"words {i}", box))

    def _all(self, contexts: int, steps: int, walk: Callable[[BrowserEngine, Shown, int], None]) -> float:
        used = list(zip(self._engines, self._threads, strict=True))[:contexts]
        pages = [thread.submit(self._open, engine).result() for engine, thread in used]
        begin = time.perf_counter()
        walks = [thread.submit(walk, engine, page, steps) for (engine, thread), page in zip(used, pages, strict=True)]
        for work in walks:
            work.result()
        return contexts * steps / (time.perf_counter() - begin)


def serve() -> int:
    """The same shop for the raw walkers, by uvicorn alone; its port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))

    async def main() -> None:
        config = uvicorn.Config(
            SHOP(), interface="asgi3", http="h11", ws="none", lifespan="off", log_config=None, access_log=False
        )
        await uvicorn.Server(config).serve(sockets=[listener])

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    return int(listener.getsockname()[1])


def resets(task: str, count: int) -> list[float]:
    """Milliseconds of a reset, the sites' growth and the first observation included, after a short episode."""
    world, times = WebSuite(engine="browser", task=task), []
    for seed in range(count + 1):
        begin = time.perf_counter()
        world.reset(seed=seed)
        times.append(1e3 * (time.perf_counter() - begin))
        for _ in range(2):
            world.step(world.cheat())
    world.close()
    return times[1:]  # the first starts a browser


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40, help="navigations of a context in a round; in a page 5 times")
    options = parser.parse_args()
    port = serve()
    walkers: dict[str, Raw | Ours] = {
        "ours": Ours(),
        "raw": Raw(flags(), port),
        "raw_our_flags": Raw([*flags(), *fast()], port),
    }
    figures: dict[str, Any] = {"benchmark": "browser_engine", "rounds": options.rounds}
    for kind, steps in (("navigate", options.steps), ("fill", 5 * options.steps)):
        for contexts in CONTEXTS:
            rates = {name: list[float]() for name in walkers}
            for i in range(options.rounds + 1):
                for name, walker in walkers.items():
                    rate = getattr(walker, kind)(contexts, steps)
                    if i:  # the first warms up
                        rates[name].append(rate)
            figures[f"{kind}_{contexts}"] = {
                **{f"{name}_steps_per_second": spread(found, 1) for name, found in rates.items()},
                **{
                    f"ratio_to_{name}": spread([ours / raw for ours, raw in zip(rates["ours"], found, strict=True)])
                    for name, found in rates.items()
                    if name != "ours"
                },
            }
    for walker in walkers.values():
        walker.close()
    for name, task in (("one_tab", "add_one"), ("two_tabs", "vote_and_add")):
        times = resets(task, 10 * options.rounds)
        figures[f"reset_ms_{name}"] = {**spread(times, 1), "p95": round(sorted(times)[int(0.95 * len(times))], 1)}
    print(json.dumps({**figures, "machine": machine()}))


if __name__ == "__main__":
    main()
