"""Bounded staleness without discarding, in a simulated run."""

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turngym.envs import UsageError
from turngym.trainers.admission import Admission


@dataclass
class Run:
    """A simulated trainer: group g runs for ``durations[g % len]`` and then is dropped or kept."""

    admission: Admission
    durations: list[int]
    dropped: set[int] = field(default_factory=set)  # group numbers modulo 7
    version: int = 0
    clock: int = 0
    born: dict[int, int] = field(default_factory=dict)  # version when admitted
    lags: dict[int, int] = field(default_factory=dict)
    order: list[tuple[int, ...]] = field(default_factory=list)
    places: int = 1000  # groups that play at once; the others wait
    queue: list[int] = field(default_factory=list)
    playing: int = 0
    most: int = 0

    def play(self, updates: int) -> None:
        ends: list[tuple[int, int]] = []
        while len(self.order) < updates:
            while self.admission.room(self.version):
                group = len(self.born)
                self.admission.start(group, self.version)
                self.born[group] = self.version
                self.queue.append(group)
            while self.queue and self.playing < self.places:
                group, self.playing = self.queue.pop(0), self.playing + 1
                self.admission.begin(group, self.version)
                self.born[group] = self.version
                heapq.heappush(ends, (self.clock + self.durations[group % len(self.durations)], group))
            self.most = max(self.most, self.admission.running)
            taken = self.admission.take(self.version)
            if taken is not None:
                self.lags |= {group: self.version - self.born[group] for group in taken}
                self.order.append(taken)
                self.version += 1
                continue
            assert ends, "nothing runs, nothing may start, nothing can be taken: stuck"
            self.clock, group = heapq.heappop(ends)
            self.playing -= 1
            (self.admission.drop if group % 7 in self.dropped else self.admission.finish)(group)


durations = st.lists(st.sampled_from([1, 1, 2, 3, 5, 40, 1000]), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    batch=st.integers(1, 4),
    max_lag=st.integers(0, 3),
    slots=st.integers(1, 24),
    durations=durations,
    dropped=st.sets(st.integers(0, 6), max_size=5),
    places=st.integers(1, 24),
)
def test_the_lag_of_every_group_is_bounded_and_slow_groups_train(
    batch, max_lag, slots, durations, dropped, places
) -> None:
    run = Run(Admission(batch, max_lag, slots), durations, dropped, places=places)
    run.play(25)
    assert max(run.lags.values()) <= max_lag
    assert run.most <= slots
    assert all(len(taken) == batch for taken in run.order)
    # no kept group is ever left behind: all of those old enough have trained
    due = {g for g, v in run.born.items() if g % 7 not in dropped and v + max_lag < run.version}
    assert due <= run.lags.keys()
    assert not {g for g in run.lags if g % 7 in dropped}


@settings(max_examples=50, deadline=None)
@given(batch=st.integers(1, 5), slots=st.integers(1, 9), durations=durations)
def test_max_lag_zero_is_synchronous(batch, slots, durations) -> None:
    run = Run(Admission(batch, 0, slots), durations)
    run.play(10)
    assert run.order == [tuple(range(i * batch, (i + 1) * batch)) for i in range(10)]
    assert set(run.lags.values()) == {0}


def test_without_waiting_fast_groups_overtake_slow_ones() -> None:
    """Why the bound needs more than counting: the same run, soft and hard."""
    lengths = [1] * 15 + [2000]
    soft, hard = (Run(Admission(4, 1, 16, soft=s), lengths) for s in (True, False))
    soft.play(50)
    hard.play(50)
    assert max(hard.lags.values()) <= 1
    outstanding = {g for g in soft.born if g not in soft.lags}
    slowest = max([*soft.lags.values(), *(soft.version - soft.born[g] for g in outstanding)])
    assert slowest > 1 and soft.clock < hard.clock


def test_an_update_does_not_wait_for_a_group_within_the_bound() -> None:
    a = Admission(batch=1, max_lag=1, slots=4)
    a.start(0, 0)
    a.start(1, 0)
    assert a.room(0) == 0, "(1 + 0 + 1) groups are out"
    a.finish(1)
    assert a.take(0) == (1,), "group 0 may still train at version 1"
    assert a.room(1) == 1
    a.start(2, 1)
    a.finish(2)
    assert a.take(1) is None, "at version 2 group 0 would exceed the bound"
    a.finish(0)
    assert a.take(1) == (0,), "the oldest first"


def test_groups_that_cannot_all_be_taken_in_time_hold_the_update() -> None:
    """Two groups due at version 2 and one update a version: each in time alone, not both."""
    a = Admission(batch=1, max_lag=2, slots=9)
    for group in range(3):
        a.start(group, 0)
    a.finish(1)
    assert a.take(0) == (1,)
    a.start(3, 1)
    a.finish(3)
    assert a.take(1) is None
    a.finish(2)
    assert (a.take(1), a.take(2)) == ((2,), None)


def test_room_is_the_published_count() -> None:
    a = Admission(batch=4, max_lag=1, slots=6)
    assert a.room(0) == 6, "slots"
    for group in range(6):
        a.start(group, 0)
    for group in range(4):
        a.finish(group)
    assert a.room(0) == 2, "2 x 4 - 4 accepted - 2 running"
    a.drop(5)
    assert a.room(0) == 3, "a running group that failed leaves the count"
    a.drop(0)
    assert a.room(0) == 4, "a finished group that is filtered leaves it too"
    a.start(6, 0)
    a.finish(6)
    assert a.take(0) == (1, 2, 3, 6)
    assert a.room(1) == 5, "free slots; 3 x 4 - 4 - 1 = 7 otherwise"


def test_a_run_may_start_at_any_version() -> None:
    a = Admission(batch=2, max_lag=0, slots=9, version=40)
    assert a.room(40) == 2 and a.room(41) == 4


def test_state_is_restored() -> None:
    a = Run(Admission(2, 1, 4), [3, 1, 7])
    a.play(5)
    b = Admission(2, 1, 4)
    b.load_state_dict(a.admission.state_dict())
    assert b.state_dict() == a.admission.state_dict()
    assert (b.room(a.version), b.running) == (a.admission.room(a.version), a.admission.running)
    assert b.take(a.version) == a.admission.take(a.version)


def test_misuse_is_an_error() -> None:
    for bad in ((0, 0, 1), (1, -1, 1), (1, 0, 0)):
        with pytest.raises(UsageError):
            Admission(*bad)
    a = Admission(1, 0, 1)
    a.start(0, 0)
    with pytest.raises(UsageError, match="cannot start"):
        a.start(1, 0)
    a.finish(0)
    for act in (lambda: a.finish(0), lambda: a.drop(9), lambda: a.finish(9)):
        with pytest.raises(UsageError):
            act()
