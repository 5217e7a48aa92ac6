"""A web site as a Gymnasium environment: messages in, actions of the grammar out, a binary reward at the end."""

from collections.abc import Sequence
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np

from ..core import Chat, Message, Messages, Reply
from ..errors import ActionError, EnvError, UsageError, extra
from .effects import Noted
from .engine import Engine
from .grammar import Exit, parse
from .page import render
from .task import Final
from .template import Template, choose
from .words import SPLITS

INSTRUCTIONS = """You use a web site. Each turn you see one page; things you can act on have a number in brackets.
{form}
do(action="Click", element="name [3]"), do(action="Type", argument="words", element="name [3]"),
do(action="Search", argument="words", element="name [3]") types and presses Enter,
do(action="Select Dropdown Option", argument="option", element="name [3]"), do(action="Press Enter"),
go_backward(), go_forward(), exit(message="answer") when you are done.
Goal: """
FORMS = {
    "plain": "Answer with one action and nothing else:",
    "thinking": "Answer with <think>your thoughts</think><answer>one action</answer>; the actions are:",
}
THINK = "think first "  # before a goal that wants a thought before each action
SLACK = 3  # turns beyond the gold sequence before an episode is truncated
ENGINES = {  # and the modules that each needs
    "parser": ("selectolax",),
    "browser": ("playwright", "uvicorn"),
    "remote": ("playwright", "uvicorn"),
}
EXAMPLES = (
    'do(action="Click", element="home [1]")',
    "go_backward()",
    'do(action="Hover", element="2")',
    "look",
)


class WebEnv(gym.Env[Messages, str]):
    """Tasks on the embedded sites; a subclass names its ``TEMPLATES``.

    ``task``: a template's name, "seen" (default) or "unseen"; ``split``: train, validation or test, whose sites show
    different things; ``level``: one or several of 1 to 4, or None for all; ``engine``: parser, browser or remote, None
    meaning the browser where pictures are asked for and the parser elsewhere; ``max_turns``: turns until an episode is
    truncated, None for the gold length and a little slack; ``instructions``: whether the goal comes after an
    explanation of the actions; ``prompt``: plain, or thinking, which asks for a thought before each action.

    Observations: at reset the goal (a system message) and the page, then the page alone. A malformed or impossible
    action costs the turn and the next page says why. ``reset(options={"template": name})`` asks for one of the
    templates drawn from. Reward 1.0 at the end of a successful episode, else 0. ``info``: success, template, level,
    goal, turn, refused (requests for addresses outside the episode's sites), and error after such an action.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}
    TEMPLATES: ClassVar[Sequence[Template]] = ()

    def __init__(
        self,
        *,
        task: str | None = None,
        split: str = "train",
        level: int | tuple[int, ...] | None = None,
        engine: str | Engine | None = None,
        render_mode: str | None = None,
        max_turns: int | None = None,
        instructions: bool = True,
        prompt: str = "plain",
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UsageError(f"no render mode {render_mode!r}; there are ansi, rgb_array, human")
        draws = render_mode in ("rgb_array", "human")
        if draws and engine == "parser":
            raise UsageError(f"the parser engine draws nothing: render_mode={render_mode!r} wants engine='browser'")
        if max_turns is not None and max_turns < 1:
            raise UsageError(f"max_turns must be at least 1, not {max_turns}")
        if prompt not in FORMS:
            raise UsageError(f"no prompt {prompt!r}; there are {', '.join(FORMS)}")
        self._drawn = {t.name: t for t in choose(self.TEMPLATES, task, split, level)}
        self.templates = tuple(self._drawn)
        self.split = next(known for known in SPLITS if known == split)  # choose let it pass
        self.observation_space, self.action_space = Chat(), Reply(EXAMPLES)
        self.render_mode, self.max_turns, self.prompt = render_mode, max_turns, prompt
        self._instructions = INSTRUCTIONS.format(form=FORMS[prompt]) if instructions else ""
        if prompt == "thinking" and not instructions:
            self._instructions = THINK
        engine = engine or ("browser" if draws else "parser")
        self._engine = make_engine(engine, visible=render_mode == "human")
        self._turn, self._done = 0, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict[str, Any]]:
        super().reset(seed=seed)
        unknown = set(options or {}) - {"template"}
        if unknown:
            raise UsageError(f"reset knows the option template, not {', '.join(sorted(unknown))}")
        episode = self._draw((options or {}).get("template")).episode(self.np_random, self.split)
        self.task = episode.task
        self.page = self._engine.open(episode.sites, episode.task.start)
        self._turn, self._done = 0, False
        self._text = render(self.page)
        return (Message("system", self._instructions + self.task.goal), Message("user", self._text)), self._info()

    def _draw(self, name: str | None) -> Template:
        if name is not None and name not in self._drawn:
            raise UsageError(f"this environment draws from {', '.join(self._drawn)}, not {name!r}")
        drawn = self.templates[int(self.np_random.integers(len(self.templates)))]  # in any case: one stream, one site
        return self._drawn[name or drawn]

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
            if isinstance(problem, Noted):
                self.page = problem.page
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
        states = self._engine.query(lambda sites: {name: site.state() for name, site in sites.items()})
        return Final(self.page, states, message)

    def render(self) -> Any:
        if self.render_mode == "ansi":
            return self._text
        if self.render_mode == "rgb_array":
            return _pixels(self._engine.screenshot())
        return None  # human: the browser window itself

    def cheat(self) -> str:
        """The next action of the gold sequence, for a visitor who has followed it so far."""
        return self.task.gold[self._turn].spell(self.page, thinking=self.prompt == "thinking")

    def screenshot(self) -> bytes:
        """The page as PNG; raises UsageError with the parser engine."""
        return self._engine.screenshot()

    def close(self) -> None:
        self._engine.close()

    def _info(self, *, success: bool = False) -> dict[str, Any]:
        task = self.task
        return {
            "success": success,
            "template": task.template,
            "level": task.level,
            "goal": task.goal,
            "turn": self._turn,
            "refused": self._engine.refused,
        }


def make_engine(engine: str | Engine, *, visible: bool = False) -> Engine:
    """The engine of that name, or the engine itself; raises UsageError for an unknown name."""
    if not isinstance(engine, str):
        return engine
    if engine not in ENGINES:
        raise UsageError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    for module in (*ENGINES[engine], "starlette", "jinja2", "python_multipart"):  # the last three serve the sites
        extra(module, "web")
    if engine == "parser":
        from .parser_engine import ParserEngine

        return ParserEngine()
    from .browser_engine import BrowserEngine

    return BrowserEngine(headless=not visible, remote=engine == "remote")


def _pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A PNG as an array [height, width, 3]."""
    from io import BytesIO

    image = extra("PIL.Image", "web").open(BytesIO(png)).convert("RGB")
    return np.asarray(image, dtype=np.uint8)
