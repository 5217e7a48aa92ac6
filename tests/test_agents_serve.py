"""The server over the torch sampler: its wire format, what it refuses, and whom it stops sampling for."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import served
from processes import wait

from turngym.agents import Request
from turngym.agents.chat import Prompter
from turngym.agents.samplers import TorchSampler
from turngym.agents.serve import Service
from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words
from turngym.envs import user
from turngym.trainers import models
from turngym.trainers.cli import main

COMMAND = [sys.executable, "-c", "import sys; from turngym.trainers.cli import main; sys.exit(main())"]
CHAT, COMPLETIONS = "/chat/completions", "/completions"
TALK = [{"role": "user", "content": "price 3"}]
CALLED = [{"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}]


class There:
    """A served model, and a client of it."""

    def __init__(self, url: str, sampler: TorchSampler, prompter: Prompter) -> None:
        self.url, self.sampler, self.prompter = url, sampler, prompter
        self.client = httpx.Client(trust_env=False, timeout=60)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(self.url + path, json=body)

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def network(tokenizer: Any) -> Any:
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    return shape.build(len(tokenizer), pad=pad, end=end, seed=0, layers=1, width=32, heads=1)


@pytest.fixture(scope="module")
def there() -> Iterator[There]:
    tokenizer = words.build()
    sampler, prompter = TorchSampler(network(tokenizer), rows=8, together=False), Prompter(tokenizer)
    with served(Service(sampler, prompter, "small", max_tokens=4).app) as at:
        found = There(at.url, sampler, prompter)
        yield found
        found.client.close()
    sampler.close()


def test_one_model_is_listed(there: There) -> None:
    (one,) = there.client.get(f"{there.url}/models").json()["data"]
    assert one["id"] == "small" and one["max_model_len"] == there.sampler.decoder.limit


def test_chat_is_the_chat_template_and_the_sampler(there: There) -> None:
    answer = there.ask(CHAT, model="small", messages=TALK, temperature=0)
    ids = there.prompter.prompt(list(user("price 3")))
    twin = TorchSampler(network(there.prompter.tokenizer))
    (sample,) = twin.decode([Request(ids, 4, there.prompter.stop, 0.0)])
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": there.prompter.text(sample.tokens)}
    assert (answer["model"], choice["finish_reason"]) == ("small", sample.finish)
    written = len(sample.tokens)
    counts = {"prompt_tokens": len(ids), "completion_tokens": written, "total_tokens": len(ids) + written}
    assert answer["usage"] == counts


def test_seeds_repeat_and_without_one_they_differ(there: There) -> None:
    texts = [there.ask(CHAT, messages=TALK, seed=s, max_tokens=20)["choices"][0]["message"] for s in (1, 1, -2, -2)]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert len({str(there.ask(CHAT, messages=TALK, max_tokens=20)["choices"]) for _ in range(3)}) > 1


def test_completions_give_exact_tokens(there: There) -> None:
    ids, end = [5, 6, 7], there.prompter.stop[0]
    body = {"prompt": ids, "max_tokens": 30, "temperature": 1.0, "seed": 3, "logprobs": 0, "return_token_ids": True}
    (whole,) = there.ask(COMPLETIONS, **body, ignore_eos=True)["choices"]
    assert len(whole["token_ids"]) == len(whole["logprobs"]["token_logprobs"]) == 30
    assert (whole["prompt_token_ids"], whole["finish_reason"]) == (ids, "length")
    stop = whole["token_ids"][9]
    first = whole["token_ids"].index(stop)
    (cut,) = there.ask(COMPLETIONS, **body, stop_token_ids=[stop], ignore_eos=True)["choices"]
    assert cut["token_ids"] == whole["token_ids"][: first + 1] and cut["finish_reason"] == "stop"
    decode = there.prompter.tokenizer.decode
    assert cut["text"] == decode(cut["token_ids"][:-1], skip_special_tokens=False)
    (plain,) = there.ask(COMPLETIONS, prompt=[ids], seed=3, max_tokens=30)["choices"]
    ends = end in whole["token_ids"]
    assert plain["finish_reason"] == ("stop" if ends else "length") and "token_ids" not in plain


def test_a_prompt_may_be_words(there: There) -> None:
    text = "price 3"
    ids = there.prompter.tokenizer.encode(text, add_special_tokens=False)
    for prompt in (text, [text], ids, [ids]):
        (choice,) = there.ask(COMPLETIONS, prompt=prompt, return_token_ids=True)["choices"]
        assert choice["prompt_token_ids"] == ids and len(choice["token_ids"]) <= 4


WRONG = [
    (CHAT, {"messages": TALK, "model": "other"}, 404, "no model 'other' is served here, only 'small'"),
    (CHAT, {}, 400, "messages must be a list"),
    (CHAT, {"messages": []}, 400, "messages must be a list"),
    (CHAT, {"messages": [{"role": "king", "content": "a"}]}, 400, "a message has a role of"),
    (CHAT, {"messages": [3]}, 400, "a message has a role of"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "content is words"),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": CALLED}]}, 400, "no tool calls"),
    (CHAT, {"messages": TALK, "stream": True}, 400, "stream can only be false here"),
    (CHAT, {"messages": TALK, "n": 2}, 400, "n can only be 1 here"),
    (CHAT, {"messages": TALK, "tools": [{}]}, 400, "tools can only be [] here"),
    (CHAT, {"messages": TALK, "colour": "red"}, 400, "colour is not known here"),
    (CHAT, {"messages": TALK, "top_p": 0.9}, 400, "top_p can only be 1 here"),
    (CHAT, {"messages": TALK, "temperature": -1}, 400, "a temperature of at least 0"),
    (CHAT, {"messages": TALK, "temperature": "hot"}, 400, "temperature must be a finite number, not hot"),
    (CHAT, {"messages": TALK, "temperature": 10**400}, 400, "temperature must be a finite number, not 1000"),
    (CHAT, {"messages": TALK, "max_tokens": 0}, 400, "max_tokens of at least 1"),
    (CHAT, {"messages": TALK, "max_tokens": 1.5}, 400, "max_tokens must be a whole number"),
    (CHAT, {"messages": TALK, "max_tokens": 10**9}, 400, "the maximum context length is"),
    (COMPLETIONS, {}, 400, "the prompt must be one text, or ids"),
    (COMPLETIONS, {"prompt": [1, -1]}, 400, "the prompt must be one text, or ids"),
    (COMPLETIONS, {"prompt": [10**9]}, 400, "the prompt must be one text, or ids"),
    (COMPLETIONS, {"prompt": []}, 400, "wants ids"),
    (COMPLETIONS, {"prompt": ["a", "b"]}, 400, "the prompt must be one text, or ids"),
    (COMPLETIONS, {"prompt": "a", "logprobs": 5}, 400, "logprobs must be 0"),
    (COMPLETIONS, {"prompt": "a", "stop_token_ids": ["x"]}, 400, "stop_token_ids must be a list of ids"),
    (COMPLETIONS, {"prompt": "a", "stop_token_ids": 3}, 400, "stop_token_ids must be a list of ids"),
    (COMPLETIONS, {"prompt": "a", "messages": TALK}, 400, "messages is not known here"),
    (COMPLETIONS, [1], 400, "must be a JSON object"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "why"), WRONG)
def test_what_it_does_not_do_is_refused(there: There, path: str, body: Any, status: int, why: str) -> None:
    answer = there.post(path, body)
    assert answer.status_code == status and why in answer.json()["error"]["message"]


def test_what_changes_nothing_may_be_said(there: There) -> None:
    idle = {
        "n": 1,
        "stream": False,
        "top_p": 1.0,
        "top_k": -1,
        "tools": [],
        "stop": None,
        "user": "x",
        "logprobs": False,
    }
    assert there.ask(CHAT, messages=TALK, **idle)["choices"]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2000) | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=2),
    max_leaves=5,
)
NAMES = ("messages", "prompt", "temperature", "seed", "stop_token_ids", "logprobs", "model", "stream")


@given(st.sampled_from([CHAT, COMPLETIONS]), st.fixed_dictionaries({}, optional={name: JSON for name in NAMES}))
def test_no_body_breaks_it(there: There, path: str, body: dict[str, Any]) -> None:
    answer = there.post(path, body)
    assert answer.status_code in (200, 400, 404) and (answer.status_code == 200 or answer.json()["error"]["message"])


def test_garbage_is_refused(there: There) -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000):
        answer = there.client.post(there.url + CHAT, content=body)
        assert answer.status_code == 400 and "the body is no JSON" in answer.json()["error"]["message"]


def test_nobody_is_sampled_for_who_has_gone(there: There) -> None:
    async def leave() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            body = {"prompt": [5, 6], "max_tokens": 900, "ignore_eos": True}
            task = asyncio.ensure_future(client.post(there.url + COMPLETIONS, json=body))
            while not there.sampler._running:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    before = there.sampler.decoder.read
    asyncio.run(asyncio.wait_for(leave(), 60))
    wait(lambda: not there.sampler._running and not there.sampler.decoder.busy)
    assert there.sampler.decoder.read - before < 900, "it went on to the end"
    assert there.ask(CHAT, messages=TALK)["choices"]


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    tokenizer = words.build()
    models.save(tmp_path / "mine", network(tokenizer), tokenizer)
    command = [*COMMAND, "serve", "--model", str(tmp_path / "mine"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        try:
            found = re.fullmatch(r"mine at (http://127\.0\.0\.1:\d+/v1); Ctrl-C ends it\n", process.stdout.readline())
            assert found
            with httpx.Client(trust_env=False, timeout=60) as client:
                assert client.get(f"{found[1]}/models").json()["data"][0]["id"] == "mine"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0 and process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words_", "why"),
    [
        ("--port 70000", "a port is from 0 to 65535, not 70000"),
        ("--threads 0", "threads must be at least 1, not 0"),
        ("--device gpu", "no device 'gpu'"),
        ("--model /dev", "is not a model folder or hub id"),
        ("--model http://127.0.0.1:1/v1", "is an endpoint, which can be measured"),
    ],
)
def test_a_mistake_is_one_line(words_: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words_.split()]) == 2
    assert why in (line := capsys.readouterr().err) and line.count("\n") == 1
