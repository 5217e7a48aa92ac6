"""What an agent is used to: written beside its weights, read with one line for whatever is wrong."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents.memory import MEMORIES
from turngym.agents.tiny import BASE
from turngym.envs import CheckpointError, UsageError
from turngym.trainers.evaluate import Evaluation, usage
from turngym.trainers.habits import AGENT_FILE, Habits, habits, write
from turngym.trainers.worlds import manners

SAID = st.builds(
    Habits, st.sampled_from([*MEMORIES]), st.integers(1, 5000), st.booleans(), st.sampled_from(["plain", "thinking"])
)


@given(said=SAID)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, said: Habits) -> None:
    folder = tmp_path_factory.mktemp("agent")
    write(folder, said)
    assert habits(str(folder)) == said
    assert json.loads((folder / AGENT_FILE).read_text()) == asdict(said)


@given(said=SAID, memory=st.sampled_from(["", *MEMORIES]), prompt=st.sampled_from(["", "plain", "thinking"]))
def test_what_is_asked_for_comes_before_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, said: Habits, memory: str, prompt: str
) -> None:
    folder = tmp_path_factory.mktemp("agent")
    write(folder, said)
    wanted = replace(said, memory=memory or said.memory, prompt=prompt or said.prompt)
    assert habits(str(folder), memory=memory, prompt=prompt) == wanted
    assert usage(Evaluation(agent=str(folder), memory=memory, prompt=prompt)) == wanted


def test_a_model_that_says_nothing_has_the_usual_ones(tmp_path: Path) -> None:
    usual = Habits("compressed", 256, True, "plain")
    assert habits(str(tmp_path)) == habits("some/hub-id") == Habits() == usual
    assert habits(str(tmp_path), memory="full", prompt="thinking") == replace(usual, memory="full", prompt="thinking")


def test_a_file_may_say_less(tmp_path: Path) -> None:
    (tmp_path / AGENT_FILE).write_text('{"max_tokens": 5, "instructions": false}')
    assert habits(str(tmp_path)) == replace(Habits(), max_tokens=5, instructions=False)


def test_the_embedded_policy_stands_for_no_name() -> None:
    assert habits("") == habits(str(BASE)) and (BASE / AGENT_FILE).is_file()
    assert (habits("").instructions, habits("").memory, habits("").prompt) == (False, "compressed", "plain")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ("null", ""),
        ('"full"', ""),
        ("\udc80", ""),
        ('{"max_tokens": 0}', "max_tokens must be at least 1, not 0"),
        ('{"max_tokens": "5"}', "not max_tokens = '5'"),
        ('{"max_tokens": 5.0}', "not max_tokens = 5.0"),
        ('{"max_tokens": true}', "not max_tokens = True"),
        ('{"memory": "elephant"}', "no memory 'elephant'; there are full, compressed"),
        ('{"memory": null}', "not memory = None"),
        ('{"instructions": 1}', "not instructions = 1"),
        ('{"prompt": ["plain"]}', "not prompt = ['plain']"),
        ('{"temper": "mild"}', "it may give memory, max_tokens, instructions, prompt"),
        ('{"temper": null}', "temper"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / AGENT_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError) as caught:
        habits(str(tmp_path))
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / AGENT_FILE} does not hold an agent's habits: ") and "\n" not in line
    assert said in line


def test_an_unknown_memory_that_is_asked_for_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^no memory 'elephant'; there are full, compressed$"):
        habits(str(tmp_path), memory="elephant")


def test_a_scripted_agent_has_a_prompt_and_no_memory() -> None:
    assert usage(Evaluation(agent="gold", prompt="thinking")) == replace(Habits(), prompt="thinking")
    assert usage(Evaluation(agent="gold")) == Habits()
    with pytest.raises(UsageError, match="the random agent has no memory to choose"):
        usage(Evaluation(agent="random", memory="full"))


WORLD = """
import gymnasium as gym

class Mute(gym.Env):
    def __init__(self):
        pass

class Told(gym.Env):
    def __init__(self, instructions=True):
        pass

gym.register("Mute-v0", entry_point=Mute)
gym.register("Told-v0", entry_point=Told)
"""


def test_worlds_are_told_what_they_have_words_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mute_world.py").write_text(WORLD)
    monkeypatch.syspath_prepend(str(tmp_path))
    quiet = replace(Habits(), instructions=False)
    told: dict[str, dict[str, Any]] = {
        env: manners(env, quiet) for env in ("turngym/WebShop-v0", "mute_world:Mute-v0", "mute_world:Told-v0")
    }
    assert list(told.values()) == [{"instructions": False, "prompt": "plain"}, {}, {"instructions": False}]
    thinking = replace(quiet, prompt="thinking")
    assert manners("turngym/WebShop-v0", thinking) == {"instructions": False, "prompt": "thinking"}
    assert manners("mute_world:Told-v0", thinking)["prompt"] == "thinking"  # which making the world will refuse
