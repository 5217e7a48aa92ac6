"""A web site as a Gymnasium environment: messages in, actions of the grammar out, a binary reward at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from ..core import Chat, Message, Messages, Reply
from ..errors import ActionError, EnvError, UsageError, extra
from .engine import Engine, Site
from .grammar import Exit, parse
from .page import render
from .task import Final, Task

INSTRUCTIONS = """You use a web site. Each turn you see one page; things you can act on have a number in brackets.
Answer with one action and nothing else:
do(action="Click", element="name [3]"), do(action="Type", argument="words", element="name [3]"),
do(action="Search", argument="words", element="name [3]") types and presses Enter,
do(action="Select Dropdown Option", argument="option", element="name [3]"), do(action="Press Enter"),
go_backward(), go_forward(), exit(message="answer") when you are done.
Goal: """
SLACK = 3  # turns beyond the gold sequence before an episode is truncated
EXAMPLES = (
    'do(action="Click", element="home [1]")',
    "go_backward()",
    'do(action="Hover", element="2")',
    "look",
)


@dataclass(frozen=True, slots=True)
class Episode:
    """What a site's world makes at reset: a task and the site to do it on."""

    task: Task
    make: Callable[[], Site]


class WebEnv(gym.Env[Messages, str]):
    """Tasks on one embedded site.

    ``draw(rng, template)`` makes an episode; ``template`` is None or the name that ``reset(options={"template":
    …})`` asks for. Observations: at reset the goal (a system message) and the page, then the page alone. A
    malformed or impossible action costs the turn and the next page says why. ``engine`` None means the browser where
    pictures are asked for and the parser elsewhere. Reward 1.0 at the end of a successful
    episode, else 0. ``info``: success, template, level, goal, turn.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}

    def __init__(
        self,
        draw: Callable[[np.random.Generator, str | None], Episode],
        *,
        engine: str | Engine | None = None,
        render_mode: str | None = None,
        max_turns: int | None = None,
        instructions: bool = True,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UsageError(f"no render mode {render_mode!r}; there are ansi, rgb_array, human")
        draws = render_mode in ("rgb_array", "human")
        if draws and engine == "parser":
            raise UsageError(f"the parser engine draws nothing: render_mode={render_mode!r} wants engine='browser'")
        engine = engine or ("browser" if draws else "parser")
        if max_turns is not None and max_turns < 1:
            raise UsageError(f"max_turns must be at least 1, not {max_turns}")
        self.observation_space, self.action_space = Chat(), Reply(EXAMPLES)
        self.render_mode, self.max_turns, self._instructions = render_mode, max_turns, instructions
        self._draw, self._engine = draw, make_engine(engine, visible=render_mode == "human")
        self._turn, self._done = 0, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict[str, Any]]:
        super().reset(seed=seed)
        unknown = set(options or {}) - {"template"}
        if unknown:
            raise UsageError(f"reset knows the option template, not {', '.join(sorted(unknown))}")
        episode = self._draw(self.np_random, (options or {}).get("template"))
        self.task = episode.task
        self.page = self._engine.open(episode.make, episode.task.start)
        self._turn, self._done = 0, False
        self._text = render(self.page)
        goal = (INSTRUCTIONS if self._instructions else "") + episode.task.goal
        return (Message("system", goal), Message("user", self._text)), self._info(success=False)

    def step(self, action: str) -> tuple[Messages, SupportsFloat, bool, bool, dict[str, Any]]:
        if self._done:
            raise EnvError("the episode is over: call reset before step")
        self._turn += 1
        message, error = None, ""
        try:
            command = parse(action)
            if isinstance(command, Exit):
                message = command.message
            else:
                self.page = self._engine.act(command)
        except ActionError as problem:
            error = str(problem)
        terminated = message is not None
        truncated = not terminated and self._turn >= self.limit
        self._text = render(self.page, error=error)
        self._done = terminated or truncated
        success = self._done and self.task.success(self.final(message))
        info = self._info(success=success) | ({"error": error} if error else {})
        return (Message("user", self._text),), float(success), terminated, truncated, info

    @property
    def limit(self) -> int:
        """Turns until the episode is truncated: ``max_turns``, or the gold length and a little slack."""
        return self.max_turns or len(self.task.gold) + SLACK

    def final(self, message: str | None) -> Final:
        """What the evaluators see if the episode ended now."""
        return Final(self.page, self._engine.query(lambda site: site.store.state()), message)

    def render(self) -> Any:
        if self.render_mode == "ansi":
            return self._text
        if self.render_mode == "rgb_array":
            return _pixels(self._engine.screenshot())
        return None  # human: the browser window itself

    def cheat(self) -> str:
        """The next action of the gold sequence, for a visitor who has followed it so far."""
        return self.task.gold[self._turn].spell(self.page)

    def screenshot(self) -> bytes:
        """The page as PNG; raises UsageError with the parser engine."""
        return self._engine.screenshot()

    def close(self) -> None:
        self._engine.close()

    def _info(self, *, success: bool) -> dict[str, Any]:
        task = self.task
        return {
            "success": success,
            "template": task.template,
            "level": task.level,
            "goal": task.goal,
            "turn": self._turn,
        }


def make_engine(engine: str | Engine, *, visible: bool = False) -> Engine:
    """The engine of that name, or the engine itself; raises UsageError for an unknown name."""
    if not isinstance(engine, str):
        return engine
    if engine == "parser":
        extra("selectolax", "web")
        from .parser_engine import ParserEngine

        return ParserEngine()
    if engine == "browser":
        extra("playwright", "web"), extra("uvicorn", "web")
        from .browser_engine import BrowserEngine

        return BrowserEngine(headless=not visible)
    raise UsageError(f"no engine {engine!r}; there are parser and browser")


def _pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A PNG as an array [height, width, 3]."""
    from io import BytesIO

    image = extra("PIL.Image", "web").open(BytesIO(png)).convert("RGB")
    return np.asarray(image, dtype=np.uint8)
