"""Rule 1 for several chat templates: whatever token ids were sampled, later prompts hold exactly these."""

import asyncio
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.agents.chat import MARK, ChatAgent, Decoding, Prompter
from turngym.agents.memory import MEMORIES, compressed, full
from turngym.agents.tiny import tokenizer as tiny
from turngym.envs import AgentError, Message, Messages, user

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
WORDS = "system user assistant the goal is to click on a page with some words and go back assistant\n\nthe end\n" * 3
TEMPLATES = ("tiny", "chatml", "llama")


@cache
def tokenizer(name: str) -> Any:
    """The embedded policy's, or a small byte-level BPE, whose merges depend on what stands beside a word."""
    if name == "tiny":
        return tiny.build()
    return bpe(CHATML, "<|im_end|>") if name == "chatml" else bpe(LLAMA, "<|eot_id|>")


def bpe(template: str | None, end: str | None) -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=SPECIALS, show_progress=False
    )
    core.train_from_iterator([WORDS], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=end, clean_up_tokenization_spaces=False)  # type: ignore[no-untyped-call]
    fast.chat_template = template
    return fast


def turn(observation: Messages, tokens: tuple[int, ...], prompter: Prompter) -> Turn:
    call = Call("policy", Request((1,)), Sample(tokens, (), (), "stop"))
    return Turn(observation, Action(prompter.text(tokens), (call,)))


def play(
    name: str, memory: str, pages: list[str], acts: list[tuple[int, ...]]
) -> tuple[Prompter, list[tuple[int, ...]]]:
    """The prompts of an episode with these pages and sampled tokens."""
    prompter, history, prompts = Prompter(tokenizer(name)), list[Turn](), list[tuple[int, ...]]()
    for i, page in enumerate(pages):
        observation = (Message("system", "the goal"), *user(page)) if i == 0 else user(page)
        prompts.append(prompter.prompt(list(MEMORIES[memory](history, observation))))
        if i < len(acts):
            history.append(turn(observation, acts[i], prompter))
    return prompter, prompts


@st.composite
def episodes(draw: st.DrawFn) -> tuple[str, list[str], list[tuple[int, ...]]]:
    """A template, pages, and an action fewer: random ids, ended by the stop token or by length."""
    name = draw(st.sampled_from(TEMPLATES))
    stop, size = tokenizer(name).eos_token_id, len(tokenizer(name))
    ids = st.lists(st.integers(0, size - 1).filter(lambda i: i != stop), min_size=1, max_size=8)
    acts = [(*draw(ids), *((stop,) if draw(st.booleans()) else ())) for _ in range(draw(st.integers(0, 4)))]
    return name, [draw(st.text(max_size=30)) for _ in range(len(acts) + 1)], acts


def find(part: tuple[int, ...], whole: tuple[int, ...], start: int) -> int:
    """Where ``part`` ends in ``whole`` at or after ``start``."""
    for i in range(start, len(whole) - len(part) + 1):
        if whole[i : i + len(part)] == part:
            return i + len(part)
    raise AssertionError(f"{part} is not in {whole[start:]}")


@given(episode=episodes(), memory=st.sampled_from(sorted(MEMORIES)))
def test_every_prompt_holds_the_exact_tokens_of_all_actions(
    episode: tuple[str, list[str], list[tuple[int, ...]]], memory: str
) -> None:
    name, pages, acts = episode
    _, prompts = play(name, memory, pages, acts)
    for i, prompt in enumerate(prompts):
        at = 0
        for act in acts[:i]:
            at = find(act, prompt, at)


@given(episode=episodes())
def test_with_full_memory_each_prompt_extends_the_last_and_its_sample(
    episode: tuple[str, list[str], list[tuple[int, ...]]],
) -> None:
    name, pages, acts = episode
    _, prompts = play(name, "full", pages, acts)
    for before, act, after in zip(prompts, acts, prompts[1:], strict=False):
        assert after[: len(before) + len(act)] == before + act and len(after) > len(before) + len(act)


@given(episode=episodes())
def test_every_turn_is_closed_exactly_once(episode: tuple[str, list[str], list[tuple[int, ...]]]) -> None:
    name, pages, acts = episode
    prompter, prompts = play(name, "compressed", pages, acts)
    for i, prompt in enumerate(prompts):
        others = 0 if name == "tiny" else i + 2  # all of these but ours close every message
        assert prompt.count(prompter.stop[0]) == i + others


@given(pages=st.lists(st.text("abc \n.é"), min_size=2, max_size=4), words=st.text("abc é", min_size=1))
def test_decoded_prompts_are_what_the_template_says(pages: list[str], words: str) -> None:
    for name in ("chatml", "llama"):
        prompter = Prompter(tokenizer(name))
        acts = [prompter.encode("x" + words + "x")] * (len(pages) - 1)
        _, prompts = play(name, "full", pages, acts)
        chat = [{"role": "system", "content": "the goal"}]
        for i, page in enumerate(pages):
            chat += [{"role": "assistant", "content": "x" + words + "x"}] if i else []
            chat.append({"role": "user", "content": page})
            said = tokenizer(name).apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            assert tokenizer(name).decode(list(prompts[i])) == said


@pytest.mark.parametrize(
    "changed",
    [
        CHATML.replace("{{ message.content }}", "{{ message.content[1:] }}"),
        CHATML.replace("{{ message.content }}", "{{ message.content }}{{ message.content }}"),
        CHATML.replace("{{ message.content }}", "{% if message.role == 'user' %}{{ message.content }}{% endif %}"),
        CHATML.replace("in messages %}", "in messages[-1:] %}"),
    ],
)
def test_a_template_that_does_not_copy_an_action_is_refused(changed: str) -> None:
    prompter = Prompter(bpe(changed, "<|im_end|>"))
    assert prompter.prompt([*user("page")])
    with pytest.raises(AgentError, match="does not copy an assistant's content once"):
        prompter.prompt([*user("page"), turn(user("page"), (300, 301), prompter), *user("next")])


def test_a_tokenizer_without_template_or_end_is_refused() -> None:
    with pytest.raises(AgentError, match="no chat template"):
        Prompter(bpe(None, "<|im_end|>"))
    with pytest.raises(AgentError, match="no end token"):
        Prompter(bpe(CHATML, None))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_page_may_hold_the_mark(name: str) -> None:
    _, prompts = play(name, "full", [f"a{MARK}b", MARK], [(65, 66)])
    assert prompts[1][: len(prompts[0]) + 2] == (*prompts[0], 65, 66)


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_leaves_out_the_stop_token_alone(name: str) -> None:
    prompter = Prompter(tokenizer(name))
    ids = prompter.encode("go back")
    assert ids[-1:] == prompter.stop and prompter.text(ids) == prompter.text(ids[:-1]) == "go back"
    assert prompter.text(()) == prompter.text(prompter.stop) == ""
    assert prompter.text((*prompter.stop, *ids)).endswith("go back")


def test_an_agent_asks_for_what_it_was_told_and_keeps_what_it_got() -> None:
    prompter, asked = Prompter(tokenizer("tiny")), list[Request]()
    written = prompter.encode("go_backward()")

    async def sampler(request: Request) -> Sample:
        asked.append(request)
        return Sample(written, (-1.0,) * len(written), (3,) * len(written), "stop")

    agent = ChatAgent(sampler, prompter, full, Decoding(0.5, 9), (7, 2), "4.1", "me")
    history = list[Turn]()
    for page in ("one", "two"):
        action = asyncio.run(agent(history, user(page)))
        assert (action.text, action.calls) == ("go_backward()", (Call("me", asked[-1], agent_sample(action)),))
        history.append(Turn(user(page), action))
    first, second = asked
    assert first == Request(first.ids, 9, prompter.stop, 0.5, seed=(7, 2, 0), session="4.1")
    assert second.seed == (7, 2, 1) and second.ids[: len(first.ids) + len(written)] == first.ids + written


def agent_sample(action: Action) -> Sample:
    (call,) = action.calls
    assert call.sample.versions == (3,) * len(call.sample.tokens)
    return call.sample


def test_an_agent_forgets_pages_unless_told_otherwise() -> None:
    async def sampler(request: Request) -> Sample:
        raise AssertionError("nobody asks")

    agent = ChatAgent(sampler, Prompter(tokenizer("tiny")))
    assert agent.memory is compressed and agent.decoding == Decoding(1.0, 64)
