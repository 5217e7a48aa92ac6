"""Templates make episodes from a seed; the choice among them says what cannot be."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs import UsageError
from turngym.envs.web import Draft, Final, Job, Page, Place, Step, StringMatch, Template
from turngym.envs.web.engine import Make
from turngym.envs.web.template import choose
from turngym.envs.web.words import SPLITS, Split


def none() -> Any:
    raise AssertionError("no site is made before the engine asks for it")


def template(name: str, level: int, split: Split, *sites: str, **said: Any) -> Template:
    def draft(rng: np.random.Generator, data: Split) -> Draft:
        makes: dict[str, Make] = dict.fromkeys(sites or ("shop",), none)
        job = Job(f"find {int(rng.integers(10**9))} in {data}", (Step("Click", "home", thought="go"),), (), **said)
        return Draft(job, makes)

    return Template(name, level, split, draft)


TEMPLATES = [
    template(f"{split}{level}", level, split) for split, level in product(SPLITS, (1, 2, 3)) if split != "test"
]
TEMPLATES += [template("last", 4, "test")]


def names(task: str | None, split: str = "train", level: int | tuple[int, ...] | None = None) -> list[str]:
    return [t.name for t in choose(TEMPLATES, task, split, level)]


def test_seen_are_those_of_training_whatever_the_data() -> None:
    for task, split in product((None, "seen"), SPLITS):
        assert names(task, split) == ["train1", "train2", "train3"]


def test_unseen_are_those_kept_for_the_split() -> None:
    assert names("unseen", "validation") == ["validation1", "validation2", "validation3"]
    assert names("unseen", "test") == ["last"]


def test_a_name_is_that_template_in_any_split() -> None:
    assert [names("last", split) for split in SPLITS] == [["last"]] * 3


@pytest.mark.parametrize("level", [2, (2,), (2, 9), (2, 2)])
def test_levels(level: int | tuple[int, ...]) -> None:
    assert names(None, "train", level) == ["train2"] and names("unseen", "validation", level) == ["validation2"]
    assert names(None, "train", (3, 1)) == ["train1", "train3"]  # in the order of the templates


TASKS = st.sampled_from([None, "seen", "unseen", "train1", "last", "fly"])
LEVELS = st.none() | st.integers(0, 5) | st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(task=TASKS, split=st.sampled_from([*SPLITS, "dev"]), level=LEVELS)
def test_what_is_chosen_fits_and_nothing_is_an_error(task: str | None, split: str, level: Any) -> None:
    levels = range(9) if level is None else (level,) if isinstance(level, int) else level
    fits = [t.name for t in TEMPLATES if t.level in levels]
    kept = {t.name: t.split for t in TEMPLATES}
    if task == "unseen":
        fits = [name for name in fits if kept[name] == split != "train"]
    elif task in (None, "seen"):
        fits = [name for name in fits if kept[name] == "train"]
    else:
        fits = [name for name in fits if name == task]
    if fits and split != "dev":
        assert names(task, split, level) == fits
    else:
        with pytest.raises(UsageError) as caught:
            names(task, split, level)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "split", "level", "said"),
    [
        ("fly", "train", None, "no task 'fly' here; there are seen, unseen, train1, train2, train3, validation1, "),
        (None, "train", 5, "there is no task 'seen' of level (5,) in split 'train'"),
        ("unseen", "train", None, "there is no task 'unseen' of level None in split 'train'"),
        ("train1", "test", (2, 3), "there is no task 'train1' of level (2, 3) in split 'test'"),
        ("fly", "dev", 9, "no split 'dev'; there are train, validation, test"),
    ],
)
def test_what_cannot_be_is_said(task: str | None, split: str, level: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(task, split, level)
    assert str(caught.value).startswith(said)


def test_an_episode_is_the_job_with_an_exit_and_a_tab_for_each_site() -> None:
    made = template("two", 3, "train", "forum", "shop", start="/board/pets", answer="42")
    episode = made.episode(np.random.default_rng(0), "test")
    task = episode.task
    assert (task.template, task.level, list(episode.sites)) == ("two", 3, ["forum", "shop"])
    assert task.start == (Place("forum", "/board/pets"), Place("shop", "/"))
    assert task.gold == (Step("Click", "home", thought="go"), Step("exit", argument="42", thought="done"))
    assert task.goal.startswith("find ") and task.goal.endswith(" in test")


def test_a_job_says_done_at_home_unless_it_says_else() -> None:
    task = template("one", 1, "train").episode(np.random.default_rng(0), "train").task
    assert task.start == (Place("shop", "/"),) and task.gold[-1].argument == "done"


def test_the_generator_draws_the_episode() -> None:
    def goals(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [TEMPLATES[0].episode(rng, "train").task.goal for _ in range(3)]

    assert goals(0) == goals(0) != goals(1) and len({*goals(0)}) == 3


def test_a_task_wants_all_its_evaluators() -> None:
    job = Job("say both", (), (StringMatch("a"), StringMatch("A ")))
    task = Template("both", 1, "train", lambda *_: Draft(job, {"shop": none})).episode(
        np.random.default_rng(0), "train"
    )
    page = Page("t", "/", ())
    assert task.task.success(Final(page, {}, "a")) and not task.task.success(Final(page, {}, "b"))
