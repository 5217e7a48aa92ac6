"""The hierarchy of errors, and how each failure is named as an outcome."""

import pickle
from typing import get_args

import pytest

from turngym.envs import (
    ActionError,
    AgentError,
    CheckpointError,
    Deadline,
    EnvError,
    Failure,
    JudgeError,
    MissingExtra,
    TurngymError,
    UsageError,
    errors,
    extra,
)
from turngym.trainers.rollout import SCORED, Outcome


def kinds(root: type) -> set[type]:
    below = {kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__}
    return {root}.union(*map(kinds, below))


def test_the_tree_of_the_docstring_is_the_tree() -> None:
    assert TurngymError.__subclasses__()[:3] == [UsageError, ActionError, Failure]
    assert kinds(UsageError) == {UsageError, MissingExtra, CheckpointError}
    assert kinds(ActionError) == {ActionError}
    assert kinds(Failure) == {Failure, EnvError, AgentError, JudgeError, Deadline}
    assert issubclass(TurngymError, Exception)
    assert errors.__doc__ is not None
    assert {kind.__name__ for kind in kinds(TurngymError)} <= set(errors.__doc__.split())


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (Failure, "env_error"),
        (EnvError, "env_error"),
        (AgentError, "agent_error"),
        (JudgeError, "judge_error"),
        (Deadline, "timeout"),
    ],
)
def test_a_failure_is_an_outcome_and_never_a_score(kind: type[Failure], outcome: str) -> None:
    assert kind("broken").outcome == outcome
    assert outcome in get_args(Outcome) and outcome not in SCORED


def test_every_failure_of_the_tree_has_an_outcome_that_a_trajectory_knows() -> None:
    outcomes = {kind.outcome for kind in kinds(Failure) if issubclass(kind, Failure)}
    assert outcomes | SCORED == set(get_args(Outcome))


def test_an_action_error_is_no_failure() -> None:
    assert not issubclass(ActionError, Failure) and not issubclass(UsageError, Failure)


@pytest.mark.parametrize("kind", sorted(kinds(TurngymError), key=lambda kind: kind.__name__))
def test_errors_cross_processes(kind: type[TurngymError]) -> None:
    again = pickle.loads(pickle.dumps(kind("why")))
    assert type(again) is kind and str(again) == "why"


def test_extra_imports_what_is_there() -> None:
    assert extra("json.decoder", "web").__name__ == "json.decoder"


def test_extra_names_the_extra_that_is_missing() -> None:
    with pytest.raises(MissingExtra) as caught:
        extra("no_such_module_of_turngym", "web")
    assert str(caught.value) == (
        "no_such_module_of_turngym is not installed; it comes with: pip install 'turngym[web]'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
