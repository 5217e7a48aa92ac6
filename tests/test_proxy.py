"""A real server and the real openai client: streams, tools, retries, parallel requests, clients that leave."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from talking import Writer, ask, run, served, until, user
from test_recording import TOOL, prompter

from turngym.agents import ContextFull, Request, Sample
from turngym.agents.proxy import Budget, Proxy
from turngym.envs import AgentError, UsageError
from turngym.trainers.program import trajectory
from turngym.trainers.rollout import Spec
from turngym.trainers.rows import rows


def test_a_conversation_with_the_async_client() -> None:
    async def main() -> None:
        writer = Writer(lambda r: f"reply {len(writer.asked)}")
        async with served(writer, seed=(4,)) as (proxy, episode, asker):
            first = await ask(asker, user("a"))
            choice = first.choices[0]
            assert (choice.message.content, choice.finish_reason, first.model) == ("reply 1", "stop", "policy")
            sent = writer.asked[0]
            assert first.usage.prompt_tokens == len(sent.ids) and first.usage.completion_tokens > 1
            second = await ask(asker, user("a"), choice.message, user("b"), temperature=0.5, max_tokens=9)
            assert second.choices[0].message.content == "reply 2"
            paid = await asker.post("/episode/reward", cast_to=object, body={"reward": 0.5})
            assert paid == {"turns": 2}
            done = await asker.post("/episode/finish", cast_to=object, body={"reward": 1, "success": True})
            assert done == {"turns": 2, "outcome": "terminated"}
            with pytest.raises(openai.AuthenticationError):
                await ask(asker, user("c"))
            made = trajectory(proxy.close(episode.key), Spec(0, "", 0))
        assert [t.reward for t in made.turns] == [0.0, 1.5] and made.info == {"success": True}
        assert [t.action.text for t in made.turns] == ["reply 1", "reply 2"]
        assert writer.asked[1].ids[: len(sent.ids)] == sent.ids and writer.asked[1].temperature == 0.5
        assert writer.asked[1].max_tokens == 9 and sent.seed == (4, 0, 0)

    run(main)


def test_a_conversation_with_the_sync_client_and_its_streams() -> None:
    def talk(url: str, key: str) -> None:
        with openai.OpenAI(base_url=url, api_key=key, http_client=openai.DefaultHttpxClient(trust_env=False)) as asker:
            past: list[Any] = [user("a")]
            for _ in range(2):
                stream = asker.chat.completions.create(
                    model="policy", messages=past, stream=True, stream_options={"include_usage": True}
                )
                text, ends, usage = "", list[str](), None
                for chunk in stream:
                    usage = chunk.usage or usage
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        ends += [choice.finish_reason] if choice.finish_reason else []
                assert text == "a reply of several parts" and ends == ["stop"] and usage.completion_tokens > 1
                past += [{"role": "assistant", "content": text}, user("more")]
            assert [m.id for m in asker.models.list()] == ["policy"]
            asker.post("/episode/reward", cast_to=object, body={"reward": 2, "final": True})

    async def main() -> None:
        async with Proxy(Writer(lambda r: "a reply of several parts"), prompter("tooled")) as proxy:
            episode = proxy.open()
            await asyncio.to_thread(talk, proxy.url, episode.key)
            made = trajectory(proxy.close(episode.key), Spec(0, "", 0))
        assert made.outcome == "terminated" and made.reward == 2.0
        assert len(made.turns) == 2 and len(rows(made)) == 1

    run(main)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_and_answered(stream: bool) -> None:
    said = 'I look.\n<tool_call>\n{"name": "look", "arguments": {"z": 1, "a": "é"}}\n</tool_call>'

    async def main() -> None:
        async with served(Writer(lambda r: said)) as (proxy, episode, asker):
            past = [user("find it")]
            for _ in range(2):
                if stream:
                    async with asker.chat.completions.stream(model="policy", messages=past, tools=[TOOL]) as parts:
                        message = (await parts.get_final_completion()).choices[0].message
                else:
                    message = (await ask(asker, *past, tools=[TOOL])).choices[0].message
                (called,) = message.tool_calls
                assert (message.content, called.function.name) == ("I look.", "look")
                assert json.loads(called.function.arguments) == {"z": 1, "a": "é"}
                mine = {"role": "assistant", "content": message.content, "tool_calls": [shown(called)]}
                past += [mine, {"role": "tool", "tool_call_id": called.id, "content": "nothing"}]
            made = trajectory(proxy.close(episode.key), Spec(0, "", 0))
        assert len(made.turns) == 2 and len(rows(made)) == 1

    run(main)


def shown(called: Any) -> Any:
    function = {"name": called.function.name, "arguments": called.function.arguments}
    return {"id": called.id, "type": "function", "function": function}


def test_parallel_requests_are_sampled_together_and_are_forks() -> None:
    async def main() -> None:
        writer = Writer(lambda r: f"of {r.seed}")
        writer.gate.clear()
        async with served(writer) as (proxy, episode, asker):
            asked = [asyncio.ensure_future(ask(asker, user("a"))) for _ in range(5)]
            await until(lambda: len(writer.asked) == 5)
            writer.gate.set()
            texts = {r.choices[0].message.content for r in await asyncio.gather(*asked)}
            made = trajectory(proxy.close(episode.key), Spec(0, "", 0))
        assert len(texts) == len(made.turns) == len(rows(made)) == 5

    run(main)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_nobody_waits_for_is_dropped(stream: bool) -> None:
    async def main() -> None:
        writer = Writer()
        writer.gate.clear()
        async with served(writer) as (proxy, episode, asker):
            with pytest.raises(openai.APITimeoutError):
                await ask(asker, user("a"), timeout=0.2, stream=stream)
            await until(lambda: writer.cancelled == 1 and not episode.running and not episode.held)
            writer.gate.set()
            await ask(asker, user("a"))
            assert len(writer.asked) == 2 and len(proxy.close(episode.key).exchanges) == 1

    run(main)


def test_the_clients_own_retries_make_no_second_row() -> None:
    async def main() -> None:
        writer = Writer()
        writer.gate.clear()
        async with served(writer) as (proxy, episode, asker):
            again = asyncio.ensure_future(ask(asker.with_options(max_retries=3), user("a"), timeout=1.0))
            await until(lambda: writer.cancelled >= 1)
            writer.gate.set()
            assert (await again).choices[0].message.content == "hello"
            lost = {"x-stainless-retry-count": "1"}  # as after a reply that was lost on its way
            same = await ask(asker, user("a"), extra_headers=lost)
            assert same.id == (await again).id
            assert len(proxy.close(episode.key).exchanges) == 1

    run(main)


def test_an_idempotency_key_names_one_reply() -> None:
    async def main() -> None:
        writer = Writer(lambda r: f"of {r.seed}")
        writer.gate.clear()
        key = {"Idempotency-Key": "k"}
        async with served(writer) as (proxy, episode, asker):
            both = [asyncio.ensure_future(ask(asker, user("a"), extra_headers=key)) for _ in range(2)]
            await until(lambda: writer.asked)
            await asyncio.sleep(0.1)
            writer.gate.set()
            replies = [*await asyncio.gather(*both), await ask(asker, user("a"), extra_headers=key)]
            assert len({r.id for r in replies}) == 1 and len(writer.asked) == len(episode.exchanges) == 1
            with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
                await ask(asker, user("b"), extra_headers=key)
            await ask(asker, user("a"))
            assert len(proxy.close(episode.key).exchanges) == 2

    run(main)


class Failing:
    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]

    async def __call__(self, request: Request) -> Sample:
        if self.errors:
            raise self.errors.pop(0)
        return Sample(prompter("tooled").encode("at last"), (-1.0,) * 9, (0,) * 9, "length")


def test_failures_of_the_policy_are_said_and_may_be_retried() -> None:
    async def main() -> None:
        failing = Failing(AgentError("out of memory"), ValueError("bug"), UsageError("no images"), ContextFull("full"))
        async with served(failing) as (proxy, episode, asker):
            with pytest.raises(openai.InternalServerError, match="out of memory"):
                await ask(asker, user("a"))
            with pytest.raises(openai.InternalServerError, match="ValueError: bug"):
                await ask(asker, user("a"))
            with pytest.raises(openai.BadRequestError, match="no images"):
                await ask(asker, user("a"))
            assert not episode.limited
            with pytest.raises(openai.BadRequestError, match="full") as caught:
                await ask(asker, user("a"))
            assert caught.value.code == "context_length_exceeded" and episode.limited
            assert (await ask(asker, user("a"))).choices[0].finish_reason == "length"
            assert len(proxy.close(episode.key).exchanges) == 1

    run(main)


def test_limits_and_closing_end_what_runs() -> None:
    async def main() -> None:
        writer, said = Writer(), list[str]()
        async with served(writer, budget=Budget(2), doing=said.append) as (proxy, episode, asker):
            await ask(asker, user("a"))
            writer.gate.clear()
            running = asyncio.ensure_future(ask(asker, user("b")))
            await until(lambda: len(writer.asked) == 2)
            with pytest.raises(openai.PermissionDeniedError, match="has had its 2 replies"):
                await ask(asker, user("c"))
            proxy.close(episode.key)
            told = len(said)
            with pytest.raises(openai.AuthenticationError):
                await running
            assert len(episode.exchanges) == 1 and not episode.running
            assert said and len(said) == told, "the watchdog hears no more of an episode that is over"
            with pytest.raises(UsageError, match="no episode"):
                proxy.close(episode.key)

    run(main)


def test_errors_have_the_form_that_clients_know() -> None:
    async def main() -> None:
        async with served(Writer()) as (proxy, episode, _), httpx.AsyncClient(trust_env=False) as plain:
            key = {"Authorization": f"Bearer {episode.key}"}
            body = {"messages": [user("a")]}
            for path, headers, sent, status in [
                ("/chat/completions", {}, body, 401),
                ("/chat/completions", {"Authorization": "Bearer other"}, body, 401),
                ("/chat/completions", {"Authorization": episode.key}, body, 401),
                ("/chat/completions", key, body | {"n": 2}, 400),
                ("/chat/completions", key, [], 400),
                ("/episode/reward", key, {"reward": 1}, 400),
                ("/episode/reward", key, {"reward": 1, "final": "yes"}, 400),
                ("/episode/reward", key, {"rewards": 1}, 400),
                ("/episode/finish", key, [], 400),
                ("/nothing", key, {}, 404),
                ("/models", key, {}, 405),
            ]:
                answer = await plain.post(proxy.url + path, headers=headers, json=sent)
                assert (answer.status_code, path) == (status, path)
                assert {*answer.json()["error"]} == {"message", "type", "param", "code"}
            answer = await plain.post(proxy.url + "/chat/completions", headers=key, content=b"{")
            assert answer.status_code == 400 and "no JSON" in answer.json()["error"]["message"]

    run(main)


def test_bodies_that_are_too_deep_or_break_off_are_no_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with served(Writer()) as (proxy, episode, _), httpx.AsyncClient(trust_env=False) as plain:
            key = {"Authorization": f"Bearer {episode.key}"}
            for depth in (100_000, *range(200, 1000, 50)):
                parameters = b'{"a":' * depth + b"1" + b"}" * depth
                tools = b'[{"type": "function", "function": {"name": "f", "parameters": ' + parameters + b"}}]"
                body = b'{"messages": [{"role": "user", "content": "a"}], "tools": ' + tools + b"}"
                answer = await plain.post(proxy.url + "/chat/completions", headers=key, content=body)
                assert answer.status_code in ((400,) if depth > 900 else (200, 400)), (depth, answer.text)
            for path in ("chat/completions", "episode/reward"):
                _, out = await asyncio.open_connection("127.0.0.1", httpx.URL(proxy.url).port)
                head = f"POST /v1/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: {key['Authorization']}\r\n"
                out.write(head.encode() + b"Content-Length: 100\r\n\r\n{")
                await out.drain()
                await asyncio.sleep(0.1)
                out.close()
                await asyncio.sleep(0.1)

    run(main)
    assert not [r for r in caplog.records if r.exc_info]


def test_a_port_that_is_taken_is_said() -> None:
    async def main() -> None:
        async with Proxy(Writer(), prompter("tooled")) as proxy:
            port = int(proxy.url.rsplit(":", 1)[1].removesuffix("/v1"))
            with pytest.raises(UsageError, match="cannot serve at"):
                await Proxy(Writer(), prompter("tooled"), port=port).start()

    run(main)
