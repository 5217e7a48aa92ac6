"""What an agent written elsewhere asked and was answered: exact tokens, and a tree of what follows what."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...envs import AgentError, Message, Messages
from ..chat import MARK, Decoding, Prompter
from ..core import Action, Call, Request, Sample, Turn
from . import wire
from .toolcalls import parse
from .wire import Ask, Json, Rejected

OUTCOMES = ("terminated", "truncated", "env_error", "agent_error", "judge_error", "timeout")


@dataclass(frozen=True, slots=True)
class Budget:
    """Most replies, and most tokens in them, of an episode; 0: no limit."""

    requests: int = 0
    tokens: int = 0


SAMPLED, UNLIMITED = Decoding(), Budget()


@dataclass(eq=False, slots=True)
class Exchange:
    """One request and its reply; ``parent`` is the exchange that it goes on from."""

    ask: Ask
    call: Call
    text: str  # as sampled
    reply: Message  # as the client was given it: without what was read as calls of tools
    finish: str  # stop | length | tool_calls
    parent: "Exchange | None"
    number: int  # of the request in its episode
    reward: float = 0.0  # reported while it was the latest
    info: dict[str, Any] = field(default_factory=dict)

    def follows(self, messages: Messages) -> bool:
        """Whether ``messages`` hold all that was said up to this reply, and the reply at its place."""
        own = self.ask.messages
        return len(messages) > len(own) and messages[len(own)] == self.reply and messages[: len(own)] == own

    def line(self) -> "Iterator[Exchange]":
        """This one and all that it goes on from, the newest first."""
        at: Exchange | None = self
        while at is not None:
            yield at
            at = at.parent

    def turn(self) -> Turn:
        """What was new since the parent, and the reply."""
        known = len(self.parent.ask.messages) + 1 if self.parent else 0
        return Turn(self.ask.messages[known:], Action(self.text, (self.call,)), self.reward, self.info)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the sampler is asked for ``ask``."""

    ask: Ask
    request: Request
    parent: Exchange | None
    number: int


class Episode:
    """The record of one key: no clock, no network.

    Args:
        key: the API key that names the episode.
        decoding: temperature and max_tokens of requests that leave them out; at temperature 0 every reply is greedy,
            whatever a request says.
        seed: of the random numbers; the number of the request, or its own seed, is added to it.
        doing: is told what the episode waits for.
    """

    def __init__(
        self,
        key: str,
        prompter: Prompter,
        *,
        decoding: Decoding = SAMPLED,
        seed: tuple[int, ...] = (0,),
        session: str = "",
        budget: Budget = UNLIMITED,
        doing: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.key, self.prompter, self.decoding, self.budget = key, prompter, decoding, budget
        self.seed, self.session, self.doing = seed, session or key, doing
        self.exchanges: list[Exchange] = []  # delivered, in that order
        self.running: set[asyncio.Task[Sample]] = set()  # replies under way
        self.held: dict[int, int] = {}  # max_tokens of requests that may yet be kept, by number
        self.outcome: str | None = None  # once it is finished
        self.limited = ""  # the limit that a request was refused for, and that still stands
        self._full = False  # whether that was the context's, which a shorter prompt meets
        self.failure = ""  # what a sampler raised last
        self.ended = asyncio.Event()  # finished, or closed by its owner
        self._asked = 0

    def plan(self, ask: Ask) -> Plan:
        """What it plans is held against the budget until it is kept or dropped.

        Raises Rejected for a request that cannot be answered.
        """
        self._check_open()
        if self.budget.requests and len(self.exchanges) + len(self.held) >= self.budget.requests:
            raise self.limit(f"this episode has had its {self.budget.requests} replies", "request_limit")
        spent = sum(len(e.call.sample.tokens) for e in self.exchanges) + sum(self.held.values())
        most = ask.max_tokens or self.decoding.max_tokens
        if self.budget.tokens and spent + most > self.budget.tokens:
            raise self.limit(f"{most} tokens more would exceed this episode's {self.budget.tokens}", "token_limit")
        parent = self.parent(ask.messages)
        request = Request(
            self.prompt(ask, parent),
            most,
            self.prompter.stop,
            self._temperature(ask),
            seed=(*self.seed, self._asked, 0) if ask.seed is None else (*self.seed, ask.seed % 2**64, 1),
            session=self.session,
        )
        number, self._asked = self._asked, self._asked + 1
        self.held[number] = most
        return Plan(ask, request, parent, number)

    def drop(self, number: int) -> None:
        """Nothing will be kept of this request that has not been."""
        self.held.pop(number, None)

    def parent(self, messages: Messages) -> Exchange | None:
        """The exchange that ``messages`` go on from: the longest that they hold whole, of equal ones the latest."""
        found = [e for e in self.exchanges if e.follows(messages)]
        return max(reversed(found), key=lambda e: len(e.ask.messages), default=None)

    def prompt(self, ask: Ask, parent: Exchange | None) -> tuple[int, ...]:
        """The ids to continue: replies of this episode in their sampled tokens, all else by the template (rule 1).

        Raises Rejected for what the model's template cannot show.
        """
        line = [*parent.line()][::-1] if parent else []
        sampled = {len(e.ask.messages): e.call.sample.tokens for e in line}
        template = str(self.prompter.tokenizer.chat_template)
        calls = any(m.tool_calls and i not in sampled for i, m in enumerate(ask.messages))
        if (ask.tools and "tools" not in template) or (calls and "tool_calls" not in template):
            raise Rejected("the model's chat template has no tools: it cannot be told of them", param="tools")
        chat = [
            {"role": "assistant", "content": MARK} if i in sampled else self._shown(m)
            for i, m in enumerate(ask.messages)
        ]
        try:
            return self.prompter.render(chat, [*sampled.values()], [self._plain(tool) for tool in ask.tools])
        except AgentError as error:
            raise Rejected(str(error), param="messages") from error

    def answered(self, plan: Plan, sample: Sample) -> Exchange:
        """The exchange that ``sample`` makes; it is no part of the episode before it is kept."""
        text = self.prompter.text(sample.tokens)
        content, called = parse(text, f"call_{plan.number}_") if plan.ask.tools else (text, ())
        finish = "length" if sample.finish != "stop" else "tool_calls" if called else "stop"
        call = Call(wire.NAME, plan.request, sample)
        return Exchange(plan.ask, call, text, Message("assistant", content, called), finish, plan.parent, plan.number)

    def keep(self, exchange: Exchange) -> None:
        """The client has it; an exchange is kept once, and none after the end."""
        self.drop(exchange.number)
        if exchange not in self.exchanges and not self.ended.is_set():
            self.exchanges.append(exchange)
            if self._full:
                self.limited, self._full = "", False

    def again(self, ask: Ask) -> Exchange | None:
        """The one reply that the very request ``ask`` has had and that nothing goes on from."""
        same = [e for e in self.exchanges if e.ask.body == ask.body]
        return same[0] if len(same) == 1 and all(e.parent is not same[0] for e in self.exchanges) else None

    def pay(self, reward: float) -> None:
        """To the latest reply. Raises Rejected before the first."""
        self._check_open()
        if not self.exchanges:
            raise Rejected("there is no reply yet that a reward could be for: ask first")
        self.exchanges[-1].reward += reward

    def finish(self, said: Mapping[str, Any]) -> None:
        """The program's last word: a reward for the latest reply, success, outcome. Raises Rejected."""
        self._check_open()
        if strange := sorted({*said} - {"reward", "success", "outcome"}):
            raise Rejected(f"a finish has reward, success and outcome, not {', '.join(strange)}", param=strange[0])
        outcome, success = said.get("outcome") or "terminated", said.get("success")
        if outcome not in OUTCOMES:
            raise Rejected(f"outcome is one of {', '.join(OUTCOMES)}", param="outcome")
        if success is not None and not isinstance(success, bool):
            raise Rejected("success is true or false", param="success")
        if reward := wire.reward(said, needed=False):
            self.pay(reward)
        if success is not None and self.exchanges:
            self.exchanges[-1].info["success"] = success
        self.outcome = outcome
        self.end()

    def end(self) -> None:
        """Nothing more is answered; what is under way is dropped. May be called twice."""
        self.ended.set()
        self.doing = lambda what: None  # what is dropped ends later, when the watchdog knows the episode no more
        for task in self.running:
            task.cancel()

    def turns(self) -> tuple[Turn, ...]:
        """One for each reply that was delivered, in that order."""
        return tuple(e.turn() for e in self.exchanges)

    def limit(self, message: str, code: str) -> Rejected:
        """An error that says so; a program that ends without a finish after it was truncated, and has not failed.

        A reply that is kept after a context was full shows that the program went on: what ends it later is a failure.
        """
        self._full = code == "context_length_exceeded" and (self._full or not self.limited)
        self.limited = message
        return Rejected(message, status=403 if code != "context_length_exceeded" else 400, code=code)

    def _check_open(self) -> None:
        if self.ended.is_set():
            raise Rejected("the episode of this key is over", status=401, code="invalid_api_key")

    def _temperature(self, ask: Ask) -> float:
        if self.decoding.temperature == 0 or ask.temperature is None:
            return self.decoding.temperature
        if not ask.temperature > 0:
            raise Rejected(
                "temperature must be above 0: a greedy reply teaches nothing; leave it out for the run's own",
                param="temperature",
            )
        return ask.temperature

    def _shown(self, message: Message) -> Json:
        """A message as templates take it."""
        said: Json = {"role": message.role, "content": self.prompter.plain(message.text)}
        if message.tool_calls:
            said["tool_calls"] = [
                {
                    "type": "function",
                    "id": c.id,
                    "function": self._plain({"name": c.name, "arguments": dict(c.arguments)}),
                }
                for c in message.tool_calls
            ]
        if message.tool_call_id is not None:
            said["tool_call_id"] = message.tool_call_id
        return said

    def _plain(self, value: Any) -> Any:
        """JSON whose words forge no turn."""
        if isinstance(value, str):
            return self.prompter.plain(value)
        if isinstance(value, dict):
            return {self.prompter.plain(k): self._plain(v) for k, v in value.items()}
        return [self._plain(v) for v in value] if isinstance(value, list | tuple) else value
