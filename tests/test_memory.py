"""What is remembered of an episode."""

from hypothesis import given
from hypothesis import strategies as st

from turngym.agents import Action, Turn
from turngym.agents.memory import MEMORIES, PLACEHOLDER, compressed, full
from turngym.envs import Message, Messages, user

GOAL = Message("system", "the goal")


def episode(pages: list[str]) -> tuple[list[Turn], Messages]:
    """All pages but the last as turns, and the newest observation; the first one holds the goal."""
    seen: list[Messages] = [(GOAL, *user(pages[0])), *(user(page) for page in pages[1:])]
    turns = [Turn(observation, Action(f"action {i}")) for i, observation in enumerate(seen[:-1])]
    return turns, seen[-1]


PAGES = st.lists(st.text(min_size=2, max_size=2000), min_size=1, max_size=12)


@given(pages=PAGES)
def test_full_keeps_everything_in_order(pages: list[str]) -> None:
    turns, observation = episode(pages)
    kept = list(full(turns, observation))
    assert kept[0] == GOAL and [m for m in kept if isinstance(m, Turn)] == turns
    assert [m.text for m in kept[1:] if isinstance(m, Message)] == pages
    assert [isinstance(m, Turn) for m in kept[1:]] == [False, True] * len(turns) + [False]


@given(pages=PAGES)
def test_compressed_keeps_goal_actions_and_the_newest_page(pages: list[str]) -> None:
    turns, observation = episode(pages)
    kept = list(compressed(turns, observation))
    old = [part for turn in turns for part in (Message("user", PLACEHOLDER), turn)]
    assert kept == [GOAL, *old, Message("user", pages[-1])]


@given(pages=PAGES)
def test_compressed_grows_with_the_newest_page_and_the_actions_alone(pages: list[str]) -> None:
    turns, observation = episode(pages)
    kept = list(compressed(turns, observation))
    size = sum(len(m.action.text) if isinstance(m, Turn) else len(m.text) for m in kept)
    assert size <= len(GOAL.text) + len(pages[-1]) + len(turns) * (len("action 10") + len(PLACEHOLDER))
    everything = sum(len(m.text) for m in full(turns, observation) if isinstance(m, Message))
    assert everything == len(GOAL.text) + sum(map(len, pages))


def test_every_message_of_an_observation_keeps_its_role() -> None:
    seen = (GOAL, Message("user", "a"), Message("tool", "b"), Message("system", "a rule"))
    turn = Turn(seen, Action("x"))
    assert list(compressed([turn], seen)) == [
        GOAL,
        Message("user", PLACEHOLDER),
        Message("tool", PLACEHOLDER),
        Message("system", "a rule"),
        turn,
        *seen,
    ]


def test_the_newest_observation_is_whole_at_the_start() -> None:
    for memory in MEMORIES.values():
        assert list(memory([], (GOAL, *user("page")))) == [GOAL, *user("page")]
    assert MEMORIES == {"full": full, "compressed": compressed}
