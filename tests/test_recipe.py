"""Rule 9: an unsupported knob, or one that would do nothing, is an error."""

import pytest

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import UsageError
from turngym.trainers.batch import collate
from turngym.trainers.credit import GroupMean
from turngym.trainers.estimator import Recipe, Update
from turngym.trainers.masks import Clip, Truncate
from turngym.trainers.recipes import m_grpo
from turngym.trainers.rollout import Trajectory
from turngym.trainers.terms import KL, PROXIMAL, Clone, Surrogate


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"terms": ()}, "needs terms"),
        ({"terms": (Clone(), Clone(scale=2.0))}, "different names"),
        ({"terms": (Surrogate(),)}, "give the recipe a credit"),
        ({"terms": (Clone(),), "credit": GroupMean()}, "no term .* reads the advantage"),
        ({"terms": (Clone(),), "references": ("start",)}, "references are"),
        ({"terms": (KL(reference="start"),)}, "references are"),
        ({"terms": (Clone(),), "references": (PROXIMAL,)}, "references are"),
    ],
)
def test_rule_9_a_part_that_would_do_nothing_is_an_error(parts, words) -> None:
    with pytest.raises(UsageError, match=words):
        Recipe(**parts)


def test_rule_9_unknown_knobs_are_errors() -> None:
    with pytest.raises(TypeError, match="critic"):
        Recipe(terms=(Clone(),), critic=object())
    with pytest.raises(TypeError, match="beta"):
        m_grpo(beta=0.1)
    assert Recipe(terms=(Surrogate(correction=Truncate()),), credit=GroupMean()).read == {PROXIMAL}


def test_rule_9_trajectories_that_would_teach_nothing_are_an_error() -> None:
    call = Call("p", Request((1,)), Sample((2,), (), (), "stop"))
    turn = Turn((), Action("", (call,)))
    shown = Trajectory("0", "t", 0, 0, 0, (turn,), (), "terminated", source="demonstration")
    recipe = m_grpo(clone=0.0)
    with pytest.raises(UsageError, match=r"\['demonstration'\] would teach nothing"):
        recipe.credited(collate([shown]))


def test_updates_that_would_do_nothing_are_refused() -> None:
    for bad in ({"epochs": 0}, {"minibatches": 0}, {"grad_clip": 0.0}, {"target_kl": 0.1}):
        with pytest.raises(UsageError):
            Update(**bad)
    with pytest.raises(UsageError):
        Clip(low=2.0)
    with pytest.raises(UsageError):
        Truncate(0.0)


def test_the_learning_rate_falls_over_the_last_share_of_a_run() -> None:
    update = Update(decay=0.5)
    assert [round(update.factor(p), 6) for p in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.55, 0.1]
    assert Update().factor(1.0) == 1.0
    for wrong in (-0.1, 1.1):
        with pytest.raises(UsageError, match="share of the run"):
            Update(decay=wrong)
