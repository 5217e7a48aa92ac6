"""Requests are dealt: sessions stay, prompts that begin alike meet, nobody is left with all of them."""

from hypothesis import given
from hypothesis import strategies as st

from turngym.agents.samplers.balance import BLOCK, Balance

PROMPT = tuple(range(4 * BLOCK))
Asked = tuple[str, tuple[int, ...]]
SESSIONS = st.sampled_from(["", "a", "b", "c", "d"])
IDS = st.lists(st.integers(0, 1), max_size=3 * BLOCK).map(tuple)


def test_a_group_meets_where_its_prompt_is() -> None:
    balance = Balance(3)
    first = balance.begin("0", PROMPT, (0, 1, 2))
    balance.begin("other", tuple(reversed(PROMPT)), (0, 1, 2))
    assert {balance.begin(str(n), (*PROMPT, n), (0, 1, 2)) for n in range(1, 8)} == {first}


def test_a_server_that_is_much_busier_is_left_alone() -> None:
    balance = Balance(2, slack=4)
    chosen = [balance.begin(str(n), PROMPT, (0, 1)) for n in range(40)]
    assert set(chosen[:5]) == {chosen[0]} and abs(balance.busy[0] - balance.busy[1]) <= 5


def test_a_session_moves_only_when_its_server_is_out() -> None:
    balance = Balance(2, slack=0)
    home = balance.begin("a", PROMPT, (0, 1))
    for n in range(9):
        balance.begin(str(n), PROMPT, (home,))
    assert balance.begin("a", PROMPT, (0, 1)) == home
    assert balance.begin("a", PROMPT, (1 - home,)) == 1 - home
    assert balance.begin("a", PROMPT, (0, 1)) == 1 - home


def test_what_a_server_forgot_draws_nobody() -> None:
    balance = Balance(2)
    first = balance.begin("a", PROMPT, (0, 1))
    balance.forget(first)
    assert balance.begin("b", PROMPT, (0, 1)) == 1 - first  # both hold nothing: the idler one


def test_the_longest_beginning_wins() -> None:
    balance = Balance(3)
    for server, blocks in enumerate((1, 3, 2)):
        balance.begin(str(server), PROMPT[: blocks * BLOCK] + (9,) * BLOCK, (server,))
    assert balance.begin("new", PROMPT, (0, 1, 2)) == 1


@given(st.lists(st.tuples(SESSIONS, IDS, st.booleans()), max_size=60), st.integers(1, 4), st.integers(0, 3))
def test_books_are_kept(asked: list[tuple[str, tuple[int, ...], bool]], count: int, slack: int) -> None:
    """Only live servers are chosen, busy counts what is under way, memory is bounded, a new session's server is
    within the slack."""
    balance, under_way, live = Balance(count, slack=slack, kept=5), [0] * count, tuple(range(count))
    homes: dict[str, int] = {}
    for session, ids, ends in asked:
        before = list(balance.busy)
        chosen = balance.begin(session, ids, live)
        assert chosen in live
        if session in homes:
            assert chosen == homes[session]
        else:
            assert before[chosen] <= min(before) + slack
        if session:
            homes[session] = chosen
        under_way[chosen] += 1
        if ends:
            balance.end(chosen)
            under_way[chosen] -= 1
        assert balance.busy == under_way
        assert all(len(held) <= 5 for held in balance._held)


@given(st.lists(IDS, min_size=1, max_size=20))
def test_the_same_requests_are_dealt_alike(prompts: list[tuple[int, ...]]) -> None:
    one, two = Balance(3), Balance(3)
    assert [one.begin("", p, (0, 1, 2)) for p in prompts] == [two.begin("", p, (0, 1, 2)) for p in prompts]
