"""Slots and prefixes: what is read again and what is not, and that neither changes a log-probability."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents import Request, Sample
from turngym.agents.samplers.decoder import CHUNK, Decoder
from turngym.agents.tiny import model as shape

SIZE, STOP = 40, 1
LONG = tuple(range(2, 32))


def network(seed: int = 0) -> Any:
    return shape.build(SIZE, pad=0, end=STOP, seed=seed, layers=2, width=32, heads=2).eval()


MODEL = network()


def ask(ids: tuple[int, ...], session: str = "", **options: Any) -> Request:
    return Request(ids, **({"max_tokens": 5, "session": session, "seed": (len(ids),)} | options))


def decode(decoder: Decoder, *requests: Request) -> list[Sample]:
    jobs, done = [decoder.put(r) for r in requests], dict[int, Sample]()
    while decoder.busy:
        done |= {id(job): sample for job, sample in decoder.step()}
    return [done[id(job)] for job in jobs]


def right(request: Request, sample: Sample, model: Any = MODEL) -> None:
    """The log-probabilities are those of one pass without cache."""
    ids = torch.tensor([request.ids + sample.tokens])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, len(request.ids) - 1 : -1].float()
    logp = (logits / (request.temperature or 1.0)).log_softmax(-1)
    assert sample.logps == pytest.approx(logp.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0].tolist(), abs=1e-5)


def passes(decoder: Decoder, *requests: Request) -> int:
    """Tokens that pass through the model for these requests' prompts, all but the last of each."""
    before = decoder.read
    samples = decode(decoder, *requests)
    for request, sample in zip(requests, samples, strict=True):
        right(request, sample)
    return decoder.read - before - sum(len(s.tokens) for s in samples)


def test_a_prompt_read_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNK, "cpu", 7)
    requests = [ask(LONG, "a"), ask(LONG[:11], "b"), ask((9, *LONG), "c")]
    decoder = Decoder(MODEL, 2)
    decoder.put(requests[0])
    decoder.step()
    assert decoder.read == 7
    for request, sample in zip(requests, decode(Decoder(MODEL, 2), *requests), strict=True):
        right(request, sample)


def test_a_turn_reads_what_is_new_to_its_episode() -> None:
    decoder = Decoder(MODEL, 4)
    first = ask(LONG, "a")
    assert passes(decoder, first) == 29
    (sample,) = decode(decoder, replace(first, session="b"))
    longer = ask((*LONG, *sample.tokens, 3, 4, 5, 6), "b")
    assert passes(decoder, longer) == 4  # the last sampled token and all but the last of the four
    changed = ask((*LONG[:20], 9, 9, 9, 9), "b")
    assert passes(decoder, changed) == 3


def test_a_group_reads_its_prompt_once() -> None:
    decoder = Decoder(MODEL, 8)
    members = [ask(LONG, str(i), seed=(i,)) for i in range(6)]
    assert passes(decoder, *members) == 29
    assert passes(decoder, *(ask((*LONG[:25], 3, 3), f"other {i}") for i in range(2))) == 1  # one reads, one copies


def test_little_in_common_is_not_worth_a_copy() -> None:
    decoder = Decoder(MODEL, 8)
    assert passes(decoder, ask(LONG, "a"), ask((*LONG[:10], *LONG[:15]), "b")) == 29 + 24


def test_other_weights_read_all_again() -> None:
    decoder = Decoder(network(), 4)
    decode(decoder, ask(LONG, "a"))
    decoder.model.load_state_dict(network(1).state_dict())
    decoder.renew(3)
    before = decoder.read
    (sample,) = decode(decoder, ask(LONG, "a"))
    assert decoder.read - before == 29 + len(sample.tokens) and set(sample.versions) == {3}
    right(ask(LONG), sample, network(1))


def test_weights_that_change_under_a_running_request() -> None:
    decoder, other = Decoder(network(), 4), network(1)
    request = ask(LONG, "a", max_tokens=6)
    job = decoder.put(request)
    for _ in range(2):
        assert decoder.step() == []
    decoder.model.load_state_dict(other.state_dict())
    decoder.renew(1)
    done = []
    while not done:
        done = decoder.step()
    sample = done[0][1]
    assert done[0][0] is job and sample.versions == (0, 0, 1, 1, 1, 1)
    ids = torch.tensor([request.ids + sample.tokens])
    with torch.inference_mode():
        old, new = (m(input_ids=ids).logits[0, len(LONG) - 1 : -1].log_softmax(-1) for m in (MODEL, other))
    for i, (token, logp) in enumerate(zip(sample.tokens, sample.logps, strict=True)):
        assert logp == pytest.approx(float((old if i < 2 else new)[i, token]), abs=1e-5)


def test_more_requests_than_slots_take_turns() -> None:
    decoder = Decoder(MODEL, 3)
    asked = [ask(LONG[i:], str(i), max_tokens=2 + i) for i in range(10)]
    for request, sample in zip(asked, decode(decoder, *asked), strict=True):
        right(request, sample)


def test_a_dropped_request_leaves_its_slot() -> None:
    decoder = Decoder(MODEL, 1)
    gone, staying = decoder.put(ask(LONG, max_tokens=50)), decoder.put(ask(LONG[:4]))
    queued = decoder.put(ask(LONG[:5]))
    decoder.step()
    decoder.drop(gone)
    decoder.drop(queued)
    done = []
    while decoder.busy:
        done += decoder.step()
    assert [job for job, _ in done] == [staying]
    right(staying.request, done[0][1])


def test_a_dropped_leader_leaves_those_who_waited_for_it_to_themselves() -> None:
    decoder = Decoder(MODEL, 3)
    leader, follower = decoder.put(ask(LONG, "a")), decoder.put(ask(LONG, "b", seed=(1,)))
    decoder._admit()
    decoder.drop(leader)
    stranger = decoder.put(ask(LONG[::-1], "c"))
    done: list[tuple[object, Sample]] = []
    while decoder.busy:
        done += decoder.step()
    assert {id(job) for job, _ in done} == {id(follower), id(stranger)}
    for job, sample in done:
        right(job.request, sample)  # type: ignore[attr-defined]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.booleans()), min_size=1, max_size=14))
def test_dropping_at_any_moment_harms_nobody(orders: list[tuple[int, int, bool]]) -> None:
    """Steps between requests of a few contexts, some of which are given up at once or later."""
    decoder, running = Decoder(MODEL, 3), []
    done: list[tuple[object, Sample]] = []
    for number, (context, cut, drop) in enumerate(orders):
        running.append(decoder.put(ask(LONG[cut:] if context else LONG[: 30 - cut], str(context), seed=(number,))))
        if drop:
            decoder.drop(running.pop(len(running) // 2))
        if number % 2:
            done += decoder.step()
    while decoder.busy:
        done += decoder.step()
    assert {id(job) for job in running} <= {id(job) for job, _ in done}
    for job, sample in done:
        right(job.request, sample)  # type: ignore[attr-defined]


TURN = st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(1, 6), st.integers(0, 2))


@given(st.lists(st.lists(TURN, min_size=1, max_size=5), min_size=1, max_size=6), st.integers(1, 4))
def test_any_history_of_requests_is_decoded_rightly(rounds: list[list[tuple[int, int, int, int]]], rows: int) -> None:
    """Sessions whose contexts grow, are cut back or change, several requests of one session at once among them."""
    decoder, held = Decoder(MODEL, rows), {s: LONG[:3] for s in range(6)}
    for number, turns in enumerate(rounds):
        asked = []
        for i, (session, kept, new, seed) in enumerate(turns):
            held[session] = (*held[session][: kept + 1], *((7 * seed + j + number) % SIZE for j in range(new)))
            asked.append(ask(held[session], str(session), seed=(i, seed), max_tokens=1 + new, stop=(STOP,)))
        for request, sample in zip(asked, decode(decoder, *asked), strict=True):
            right(request, sample)
            held[int(request.session)] = (*request.ids, *sample.tokens)
