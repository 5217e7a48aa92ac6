"""Models behind endpoints that take messages: what is sent, what of the answer counts, what is another model's."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loopback import Answer, Scripted, served

from turngym.agents import Action, ContextFull, Turn
from turngym.agents.asked import number
from turngym.agents.chat import Decoding
from turngym.agents.endpoint import Endpoint, Refused, Retry
from turngym.agents.hosted import Hosted, HostedAgent, Reply, said
from turngym.agents.hosted import served as name_of
from turngym.agents.memory import MEMORIES, PLACEHOLDER
from turngym.envs import AgentError, Image, Message, Text, ToolCall, UsageError, user

PNG = b"\x89PNG\r\n\x1a\n"
USAGE = {"prompt_tokens": 11, "completion_tokens": 3}


def answer(content: Any = "yes", model: str = "m", **more: Any) -> Answer:
    message = {"role": "assistant", "content": content} | more
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return Answer(said={"model": model, "choices": [choice], "usage": USAGE})


def run(app: Scripted, job: Callable[[Hosted], Awaitable[Any]], model: str = "m") -> Any:
    async def main(url: str) -> Any:
        async with Endpoint(url, retry=Retry(1)) as endpoint:
            return await job(Hosted(endpoint, model))

    with served(app) as at:
        return asyncio.run(asyncio.wait_for(main(at.url), 60))


def ask(hosted: Hosted) -> Awaitable[Reply]:
    return hosted.ask(user("so?"))


def test_a_question_and_its_answer() -> None:
    app = Scripted(answer())
    assert run(app, ask) == Reply("yes", "stop", 11, 3)
    assert app.saw[0].path == "/v1/chat/completions"
    asked = {"model": "m", "messages": [{"role": "user", "content": "so?"}], "temperature": 0.0, "max_tokens": 256}
    assert app.saw[0].body == asked


def test_an_agent_speaks_by_its_memory() -> None:
    app = Scripted(answer("b"))
    history = (Turn((Message("system", "goal"), Message("user", "page 1")), Action("a")),)

    async def act(hosted: Hosted) -> list[Action]:
        decoding = Decoding(0.7, 9)
        agents = [HostedAgent(hosted, MEMORIES[name], decoding, (5,)) for name in ("compressed", "full", "full")]
        return [await agent(history, user("page 2")) for agent in agents]

    assert run(app, act) == [Action("b")] * 3
    small, large, again = (saw.body for saw in app.saw)
    roles = ["system", "user", "assistant", "user"]
    assert [m["role"] for m in small["messages"]] == roles == [m["role"] for m in large["messages"]]
    assert [m["content"] for m in small["messages"]] == ["goal", PLACEHOLDER, "a", "page 2"]
    assert [m["content"] for m in large["messages"]] == ["goal", "page 1", "a", "page 2"]
    assert (large["temperature"], large["max_tokens"]) == (0.7, 9) and large == again
    assert large["seed"] == number((5, 1)) != number((5, 2))


def test_every_kind_of_message_has_its_form() -> None:
    pictured = said(Message("user", (Text("left "), Image(PNG), Text("right"))))["content"]
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert [part["type"] for part in pictured] == ["text", "image_url", "text"]
    assert pictured[1]["image_url"]["url"] == url
    called = said(Message("assistant", "", (ToolCall("c1", "find", (("what", "tea"),)),)))
    function = {"name": "find", "arguments": '{"what": "tea"}'}
    assert called["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert said(Message("tool", "3", tool_call_id="c1")) == {"role": "tool", "content": "3", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        (answer("act", reasoning_content="I think"), "act"),
        (answer("act", reasoning="I think"), "act"),
        (answer(None, reasoning_content="I only think"), ""),
        (answer([{"type": "thinking", "text": "hm"}, {"type": "text", "text": "a"}]), "a"),
        (answer([3, {"type": "text"}]), ""),
        (answer(""), ""),
        (answer({"odd": 1}), ""),
    ],
)  # fmt: skip
def test_reasoning_is_no_action(given_: Answer, text: str) -> None:
    assert run(Scripted(given_), ask).text == text


@pytest.mark.parametrize(
    ("model", "by", "same"),
    [
        ("m", "m", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("c-3", "c-3-20241022", True),
        ("gpt-4", "gpt-4-0613", True),
        ("m", "m2", False),
        ("m", "other", False),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4", "gpt-4-turbo", False),
        ("a.b", "axb", False),
        ("m", "", False),
    ],
)
def test_another_models_answer_is_a_failure(model: str, by: str, same: bool) -> None:
    if same:
        assert run(Scripted(answer(model=by)), ask, model).text == "yes"
    else:
        with pytest.raises(AgentError, match=f"'{by}' answered, not '{model}'"):
            run(Scripted(answer(model=by)), ask, model)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [1]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {}}, {"message": {}}]},
        {"model": None, "choices": [{"message": {}}]},
        {"model": 3, "choices": [{"message": {}}]},
    ],
)
def test_an_answer_of_another_form_is_a_failure(wrong: Any) -> None:
    with pytest.raises(AgentError, match="/v1/chat/completions: "):
        run(Scripted(Answer(said=wrong)), ask)


def test_a_key_that_a_server_repeats_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-7f3a")

    async def main(url: str) -> None:
        async with Endpoint(url, key="SOME_KEY", retry=Retry(1)) as endpoint:
            await ask(Hosted(endpoint, "m"))

    for wrong in ({"model": "sk-7f3a"}, {"choices": "sk-7f3a"}, {"x": "sk-7f3a"}):
        with served(Scripted(Answer(said=wrong))) as at, pytest.raises(AgentError, match=r"\*\*\*") as error:
            asyncio.run(asyncio.wait_for(main(at.url), 60))
        assert "sk-7f3a" not in str(error.value)


def test_a_server_that_counts_nothing_is_no_failure() -> None:
    choices = [{"message": {"content": "a"}}]
    for usage in (None, [], {"prompt_tokens": "9"}):
        assert run(Scripted(Answer(said={"choices": choices, "usage": usage})), ask) == Reply("a", "None", 0, 0)


@pytest.mark.parametrize(
    ("status", "message", "full"),
    [
        (400, "This model's maximum context length is 8 tokens. However, you requested 9", True),
        (400, "the request exceeds the available context size", True),
        (400, "The decoder prompt (length 9) is longer than the maximum model length of 8", True),
        (400, "The input (9 tokens) is longer than the model's context length (8 tokens)", True),
        (413, "prompt is too long: 9 tokens > 8 maximum", True),
        (400, "temperature must be at most 2", False),
        (404, "context length: no such page", False),
        (500, "context length", False),
    ],
)
def test_a_full_context_is_told_from_other_refusals(status: int, message: str, full: bool) -> None:
    with pytest.raises(ContextFull if full else Refused, match="/v1/chat/completions: ") as error:
        run(Scripted(Answer(status, {"error": {"message": message}})), ask)
    assert isinstance(error.value, ContextFull) == full


def models(*names: str) -> Answer:
    return Answer(said={"object": "list", "data": [{"id": name} for name in names]})


@pytest.mark.parametrize(
    ("listed", "model", "found"),
    [
        (models("a"), "", "a"),
        (models("a", "b"), "b", "b"),
        (Answer(404), "b", "b"),
        (Answer(405), "b", "b"),
        (Answer(said={}), "b", "b"),
        (Answer(said={"data": "odd"}), "b", "b"),
    ],
)
def test_the_model_there_has_a_name(listed: Answer, model: str, found: str) -> None:
    app = Scripted(listed)
    assert run(app, lambda hosted: name_of(hosted.endpoint, model)) == found
    assert [(saw.method, saw.path) for saw in app.saw] == [("GET", "/v1/models")]


@pytest.mark.parametrize(
    ("listed", "model", "why"),
    [
        (models("a"), "b", "serves no b; it serves a$"),
        (models(*map(str, range(12))), "", "lists 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more: name the one"),
        (models(), "", "lists no model: name the one to ask with --served"),
        (Answer(said={"data": 3}), "", "lists no model"),
    ],
)
def test_a_model_that_cannot_be_found_is_said(listed: Answer, model: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        run(Scripted(listed), lambda hosted: name_of(hosted.endpoint, model))


def test_an_endpoint_that_does_not_answer_is_no_mistake_of_the_user() -> None:
    for listed, model in ((Answer(404), ""), (Answer(500), "b"), (Answer(401), "b"), (Answer(said=b"x"), "b")):
        with pytest.raises(AgentError, match="/v1/models"):
            run(Scripted(listed), lambda hosted, model=model: name_of(hosted.endpoint, model))  # type: ignore[misc]
