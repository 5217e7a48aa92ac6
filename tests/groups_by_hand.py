"""Groups of given returns, for what learns from them."""

from collections.abc import Sequence

from hypothesis import strategies as st

from turngym.agents import Action, Turn
from turngym.trainers.rollout import Group, Outcome, Spec, Trajectory

TASKS = ("a", "b", "c", "d")


def episode(task: str, member: int, reward: float, outcome: Outcome = "terminated") -> Trajectory:
    return Trajectory(str(member), task, 0, 0, member, (Turn((), Action(""), reward, {}),), (), outcome)


def group(task: str, *returns: float, failed: int = 0) -> Group:
    """One of counted episodes with ``returns``, and ``failed`` others that failed."""
    counted = [episode(task, i, r) for i, r in enumerate(returns)]
    others = [episode(task, len(returns) + i, 0.0, "env_error") for i in range(failed)]
    return Group(Spec(0, task, 0, len(returns) + failed), (*counted, *others))


def wins(task: str, won: int, size: int = 8) -> Group:
    return group(task, *(float(i < won) for i in range(size)))


RETURNS = st.sampled_from([0.0, 1.0]) | st.floats(-1e6, 1e6)
GROUPS = st.builds(
    lambda task, returns, failed: group(task, *returns, failed=failed),
    st.sampled_from(TASKS),
    st.lists(RETURNS, max_size=8),
    st.integers(0, 2),
)
UPDATES: st.SearchStrategy[Sequence[Sequence[Group]]] = st.lists(st.lists(GROUPS, max_size=5), max_size=8)
