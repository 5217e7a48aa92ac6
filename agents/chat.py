"""The plain agent: a memory, a chat template, exact tokens, one sample a turn."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from ..envs import AgentError, Message, Messages
from .core import Action, Call, Request, Sampler, Turn
from .memory import MEMORIES, Memory

MARK = "\ufdd0"  # a noncharacter: texts lose it, so it can stand for an action inside the template's output


@dataclass(frozen=True, slots=True)
class Decoding:
    """How actions are sampled; ``temperature`` 0 is greedy."""

    temperature: float = 1.0
    max_tokens: int = 64


class Prompter:
    """Messages to token ids by a Hugging Face chat template, never re-tokenising what was sampled (rule 1).

    The template is rendered with a mark in the place of every action; the text between marks is tokenised, and the
    sampled ids stand where the marks were. Works for every template that copies an assistant's content.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise AgentError("the model's tokenizer has no chat template; an agent needs one")
        if tokenizer.eos_token_id is None:
            raise AgentError("the model's tokenizer has no end token; an agent needs one")
        self.tokenizer = tokenizer
        self.stop: tuple[int, ...] = (int(tokenizer.eos_token_id),)
        self._encode = lru_cache(maxsize=4096)(self._tokens)
        self._control = re.compile("|".join(map(re.escape, {MARK, *map(str, tokenizer.added_tokens_decoder.values())})))

    def prompt(self, remembered: Sequence[Message | Turn]) -> tuple[int, ...]:
        """The ids to continue; a Turn stands for its action. Raises AgentError when the template changes actions."""
        acts = [m.action.calls[-1].sample.tokens for m in remembered if isinstance(m, Turn)]
        chat = [
            {"role": "assistant", "content": MARK}
            if isinstance(m, Turn)
            else {"role": m.role, "content": self.plain(m.text)}
            for m in remembered
        ]
        return self.render(chat, acts)

    def render(
        self, chat: Sequence[Mapping[str, Any]], acts: Sequence[tuple[int, ...]], tools: Sequence[Any] = ()
    ) -> tuple[int, ...]:
        """The ids to continue after ``chat`` as templates take it, each MARK in it standing for the next of ``acts``.

        Raises AgentError when the template refuses the messages or changes what stands where a mark is.
        """
        try:
            more = {"tools": list(tools)} if tools else {}
            text: str = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **more)
        except TemplateError as error:
            raise AgentError(f"the model's chat template refuses these messages: {error}") from error
        pieces = text.split(MARK)
        if len(pieces) != len(acts) + 1:
            raise AgentError("the chat template does not copy an assistant's content once; this model cannot be used")
        ids = list(self._encode(pieces[0]))
        for written, piece in zip(acts, pieces[1:], strict=True):
            after = self._encode(piece)
            ids += written
            # a sampled stop token is the template's own end of the turn
            closed = bool(written) and written[-1] in self.stop and after[:1] == written[-1:]
            ids += after[1:] if closed else after
        return tuple(ids)

    def plain(self, text: str) -> str:
        """``text`` without the mark, and with control tokens that it spells broken up, so that they stay words."""
        return self._control.sub(_defused, text)

    def text(self, tokens: Sequence[int]) -> str:
        """The words of sampled tokens, without the stop token."""
        shown = tokens[:-1] if tokens and tokens[-1] in self.stop else tokens
        decoded: str = self.tokenizer.decode(list(shown), skip_special_tokens=False)
        return decoded

    def encode(self, text: str) -> tuple[int, ...]:
        """``text`` as an action's tokens, the stop token included: for demonstrations, never for what was sampled."""
        return (*self._encode(text), *self.stop)

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


def _defused(control: re.Match[str]) -> str:
    """A control token that a page spells, so that it stays words: no page forges a turn."""
    return "\ufffd" if control[0] == MARK else f"{control[0][0]} {control[0][1:]}"


@dataclass(frozen=True, slots=True)
class ChatAgent:
    """One episode's agent: remembers by ``memory``, samples with random numbers keyed by ``seed`` and the turn."""

    sampler: Sampler
    prompter: Prompter
    memory: Memory = MEMORIES["compressed"]
    decoding: Decoding = Decoding()
    seed: tuple[int, ...] = (0,)
    session: str = ""
    policy: str = "policy"

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action:
        request = Request(
            ids=self.prompter.prompt(list(self.memory(history, observation))),
            max_tokens=self.decoding.max_tokens,
            stop=self.prompter.stop,
            temperature=self.decoding.temperature,
            seed=(*self.seed, len(history)),
            session=self.session,
        )
        sample = await self.sampler(request)
        return Action(self.prompter.text(sample.tokens), (Call(self.policy, request, sample),))
