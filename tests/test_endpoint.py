"""The client of servers of the OpenAI kind, against a real server that misbehaves by a script."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Answer, Receive, Scope, Scripted, Send, reply, served

from turngym.agents.endpoint import AGAIN, Endpoint, Price, Refused, Retry, Spent, _seconds
from turngym.envs import AgentError, UsageError

AT_ONCE = Retry(first=0.0)
KEY = "sk-secret-7f3a"


def run(job: Callable[[Endpoint], Awaitable[Any]], url: str, **options: Any) -> Any:
    """``job`` with an endpoint at ``url``, in a loop of its own."""

    async def main() -> Any:
        async with Endpoint(url, **({"retry": AT_ONCE} | options)) as endpoint:
            return await job(endpoint)

    return asyncio.run(asyncio.wait_for(main(), 60))


async def post(endpoint: Endpoint) -> Any:
    return await endpoint.post("/x", {"a": 1}), endpoint.spent


@pytest.mark.parametrize("status", sorted(AGAIN)[:8])
def test_what_may_pass_is_asked_again(status: int) -> None:
    app = Scripted(Answer(status), Answer(said={"b": 2}))
    with served(app) as at:
        answer, spent = run(post, at.url)
    assert answer == {"b": 2} and (spent.requests, spent.retries) == (1, 1)
    assert [(s.method, s.path, s.body) for s in app.saw] == [("POST", "/v1/x", {"a": 1})] * 2


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 422])
def test_what_will_not_pass_is_asked_once(status: int) -> None:
    app = Scripted(Answer(status, {"error": {"message": "two\nlines", "code": 3}}))
    with served(app) as at:
        with pytest.raises(Refused, match=f"^POST {at.url}/x: {status}: two lines$") as refused:
            run(post, at.url)
    assert refused.value.status == status and len(app.saw) == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"error": "plain"}, "plain"),
        ({"detail": [{"msg": "x"}]}, '[{"msg": "x"}]'),
        ({"object": "error", "message": "old"}, "old"),
        (["odd"], '["odd"]'),
        (b"<html>no</html>", "<html>no</html>"),
        (b"", "Service Unavailable"),
        (b"[" * 100_000, "[" * 300),
    ],
)
def test_the_servers_own_words_are_told_when_all_attempts_failed(said: Any, words: str) -> None:
    app = Scripted(Answer(503, said))
    with served(app) as at:
        with pytest.raises(Refused) as refused:
            run(post, at.url, retry=Retry(3, 0.0))
        assert str(refused.value) == f"POST {at.url}/x: 503: {words}; asked 3 times"
    assert len(app.saw) == 3


def after(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("said", "least"), [(lambda: "1", 1.0), (lambda: after(3), 1.5)], ids=["seconds", "date"])
def test_a_server_says_when_to_come_back(said: Callable[[], str], least: float) -> None:
    app = Scripted(Answer(429, headers=(("retry-after", said()),)), Answer())
    with served(app) as at:
        run(post, at.url)
    assert app.saw[1].at - app.saw[0].at >= least


@pytest.mark.parametrize("said", ["86400", after(86400), "inf"], ids=["seconds", "date", "never"])
def test_a_server_is_not_waited_for_for_ever(said: str) -> None:
    app = Scripted(Answer(429, headers=(("retry-after", said),)), Answer())
    with served(app) as at:
        run(post, at.url, retry=Retry(first=0.0, longest=0.1))  # or it is not done in time
    assert len(app.saw) == 2


@given(st.one_of(st.text(), st.floats().map(str), st.datetimes().map(str)))
def test_any_word_of_a_server_is_a_time_or_nothing(said: str) -> None:
    seconds = _seconds(said)
    assert seconds is None or seconds >= 0


def test_jitter_draws_from_its_own_generator() -> None:
    before, there = random.getstate(), str(np.random.get_state())

    async def states(endpoint: Endpoint) -> Any:
        first = endpoint._jitter.getstate()
        await post(endpoint)
        return first, endpoint._jitter.getstate()

    with served(Scripted(*[Answer(500)] * 2, Answer())) as at:
        began, ended = run(states, at.url, retry=Retry(first=1e-3), seed=4)
    twin = random.Random(4)
    assert began == twin.getstate() != ended
    for _ in range(2):
        twin.uniform(0.0, 1e-3)
    assert ended == twin.getstate()
    assert (random.getstate(), str(np.random.get_state())) == (before, there)


def test_a_rate_holds_requests_back() -> None:
    app = Scripted()

    async def job(endpoint: Endpoint) -> None:
        tasks = [asyncio.ensure_future(post(endpoint)) for _ in range(3)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.2)
        assert len(app.saw) == 1, "the second may begin in 1,000 seconds"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ten(endpoint: Endpoint) -> float:
        start = time.monotonic()
        await asyncio.gather(*(post(endpoint) for _ in range(10)))
        return time.monotonic() - start

    with served(app) as at:
        run(job, at.url, rate=1e-3)
        assert run(ten, at.url, rate=30.0) >= 9 / 30
    assert len(app.saw) == 11


def test_no_more_requests_are_under_way_than_allowed() -> None:
    now, most, full = 0, 0, asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.01)
        now -= 1
        await reply(Answer(), receive, send)

    async def twelve(endpoint: Endpoint) -> None:
        await asyncio.gather(*(post(endpoint) for _ in range(12)))

    with served(app) as at:
        run(twelve, at.url, parallel=3)
    assert most == 3


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "no JSON: ''"),
        (b"{", "no JSON: '{'"),
        (b"\xff\xfe{", "no JSON"),
        (b"[1]", r"no JSON object: '\[1\]'"),
        (b"null", "no JSON object"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_garbage_is_a_failure_of_the_agent(said: bytes, why: str) -> None:
    app = Scripted(Answer(said=said))
    with served(app) as at:
        with pytest.raises(AgentError, match=f"^POST {at.url}/x: the answer is {why}") as error:
            run(post, at.url)
    assert len(app.saw) == 1 and len(str(error.value)) < 500


def test_a_server_that_hangs_or_dies_in_its_answer_is_asked_again() -> None:
    app = Scripted(Answer(how="hang"), Answer(how="cut"), Answer(said={"b": 2}))
    with served(app) as at:
        answer, spent = run(post, at.url, timeout=0.3)
    assert answer == {"b": 2} and spent.retries == 2 and len(app.saw) == 3


@pytest.mark.parametrize(("how", "why"), [("hang", "nothing came for 0.3 s"), ("cut", "peer closed connection")])
def test_one_that_goes_on_so_is_a_failure_of_the_agent(how: str, why: str) -> None:
    app = Scripted(Answer(how=how))
    with served(app) as at:
        with pytest.raises(AgentError, match=rf"^POST {at.url}/x: .*{why}.*; asked 2 times$"):
            run(post, at.url, timeout=0.3, retry=Retry(2, 0.0))
    assert len(app.saw) == 2


def test_nobody_there_is_a_failure_of_the_agent() -> None:
    with served(Scripted()) as at:
        pass
    with pytest.raises(AgentError, match=rf"^GET {at.url}/models: .*; asked 3 times$"):
        run(lambda endpoint: endpoint.get("/models"), at.url, retry=Retry(3, 0.0))


@pytest.mark.parametrize("answer", [Answer(401, {"error": f"bad key {KEY}"}), Answer(said=f"you said {KEY}".encode())])
def test_a_key_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    app = Scripted(answer)
    with served(app) as at:
        with pytest.raises(AgentError, match=r"\*\*\*") as error:
            run(post, at.url, key="SOME_KEY")
    assert app.saw[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(error.value)


@pytest.mark.parametrize("held", ["", f"{KEY}\n", f"{KEY} x", f"{KEY}\u00e9", f"{KEY}\r"])
def test_what_is_no_key_is_said_without_it(monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    monkeypatch.setenv("SOME_KEY", held)
    with pytest.raises(UsageError, match="SOME_KEY") as error:
        Endpoint("http://127.0.0.1:1/v1", key="SOME_KEY")
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["", "models/x", "ftp://a/b", "http://", "http://a:99999/v1", "http://u:pw7@a/v1", "http://a/v1?key=pw7",
     "http://a/v1#pw7", "ftp://u:pw7@a", "http://[::1/v1"],
)  # fmt: skip
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(UsageError) as error:
        Endpoint(url)
    assert "pw7" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"rate": -1.0}, {"parallel": 0}, {"timeout": -1.0}])
def test_numbers_out_of_range_are_said(wrong: Any) -> None:
    with pytest.raises(UsageError):
        Endpoint("http://127.0.0.1:1/v1", **wrong)
    for numbers in ((0, 0.5, 1.0), (1, -1.0, 1.0), (1, 2.0, 1.0)):
        with pytest.raises(UsageError, match="at least one attempt"):
            Retry(*numbers)


def test_what_was_used_is_counted_and_priced() -> None:
    usages = [{"prompt_tokens": 1000, "completion_tokens": 20}, {"prompt_tokens": 5}, None, [1], "x"]
    usages += [{"prompt_tokens": -7, "completion_tokens": True}, {"prompt_tokens": "9"}, {"completion_tokens": 1.5}]
    app = Scripted(Answer(500, {"usage": usages[0]}), *(Answer(said={"usage": usage}) for usage in usages))

    async def job(endpoint: Endpoint) -> Spent:
        for _ in usages:
            await post(endpoint)
        return endpoint.spent

    with served(app) as at:
        spent: Spent = run(job, at.url, price=Price(2.0, 10.0))
    assert (spent.requests, spent.retries, spent.read, spent.written) == (len(usages), 1, 1005, 20)
    assert spent.cost == pytest.approx((1005 * 2 + 20 * 10) / 1e6)
    both = spent.beside(Spent(1, 2, 3, 4))
    assert (both.requests, both.retries, both.read, both.written) == (len(usages) + 1, 3, 1008, 24)
    assert both.price == spent.price


def test_one_loop_after_the_other() -> None:
    app = Scripted(Answer(said={"b": 2}))
    with served(app) as at:
        endpoint = Endpoint(at.url, rate=1000.0)

        async def job() -> None:
            await asyncio.gather(*(endpoint.post("/x", {}) for _ in range(3)))
            await endpoint.close()
            await endpoint.close()

        for _ in range(3):
            asyncio.run(asyncio.wait_for(job(), 60))
    assert len(app.saw) == 9 and endpoint.spent.requests == 9
