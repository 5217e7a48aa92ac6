"""A team that breaks ends the run with its reason, and leaves no process behind."""

import os
import signal
from multiprocessing import active_children
from pathlib import Path

import psutil
import pytest
import torch
from processes import wait
from taught import agent, batch, near, plan

from turngym.envs import CheckpointError, Failure
from turngym.trainers.team import Team


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return agent(tmp_path_factory.mktemp("team"))


def test_a_process_that_dies_ends_the_run_with_one_error(folder: str) -> None:
    with pytest.raises(Failure, match=r"learner process 1 ended \(exit code -9\)"), Team(2) as team:
        learner = team.learner(plan(folder))
        rows = near(learner, batch())
        for process in team._processes:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        learner.update(rows)
    wait(lambda: not active_children())
    assert not torch.distributed.is_initialized()


def test_the_one_that_was_killed_is_named_not_those_that_it_took_with_it(folder: str) -> None:
    with pytest.raises(Failure, match=r"learner process 2 ended \(exit code -9\)"), Team(3) as team:
        learner = team.learner(plan(folder))
        rows = near(learner, batch())
        os.kill(team._processes[1].pid, signal.SIGKILL)
        team._processes[1].join()
        learner.update(rows)
    wait(lambda: not active_children())


@pytest.mark.parametrize("grouped", [False, True])
def test_a_full_device_is_one_line_that_says_what_to_do(grouped: bool) -> None:
    with pytest.raises(Failure, match="--micro-tokens, and --checkpointing") as error, Team(grouped=grouped):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "\n" not in str(error.value)


def test_no_process_listens_to_the_network(folder: str) -> None:
    for count in (1, 2):
        with Team(count, grouped=True) as team:
            team.learner(plan(folder))
            processes = [psutil.Process(pid) for pid in (os.getpid(), *(p.pid for p in team._processes))]
            heard = [c.laddr.ip for p in processes for c in p.net_connections("tcp") if c.status == "LISTEN"]
            assert not {*heard} & {"0.0.0.0", "::"}


def test_what_another_process_fails_of_is_said(folder: str, tmp_path: Path) -> None:
    """Its model is not there; this process's is, and waits for it in vain."""
    with pytest.raises(CheckpointError, match="nowhere is not a model folder"), Team(2) as team:
        team.ranks.tell("", plan(str(tmp_path / "nowhere")))
        near(plan(folder).learner(team.ranks), batch())


def test_an_interrupt_ends_all(folder: str) -> None:
    with pytest.raises(KeyboardInterrupt), Team(2) as team:
        team.learner(plan(folder))
        raise KeyboardInterrupt
    wait(lambda: not active_children())


def test_alone_there_is_no_group(folder: str) -> None:
    with Team() as team:
        assert not torch.distributed.is_initialized() and team.ranks.count == 1
    with Team(grouped=True):
        assert torch.distributed.is_initialized()
    assert not torch.distributed.is_initialized()
