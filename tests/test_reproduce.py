"""Claims against figures: when a difference is beyond chance, and how it is said."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs import UsageError
from turngym.trainers.reproduce import Claim, Reproduction, above, gains, percent, reproduce, show
from turngym.trainers.statistics import Rate, interval

Z = 1.959963984540054
COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
RATES = COUNTS.map(lambda count: interval(*count))
STEPS = st.tuples(RATES, RATES)
CLAIMS = [
    Claim("cloning improves on the start", "6.1 -> 20.0", "0.0 -> 41.5", True),
    Claim("flat", "no", "98.5 -> 99.0", False),
]


def wilson(x: int, n: int) -> tuple[float, float]:
    """The roots of (p - x/n)² = Z² p (1 - p) / n: Wilson's interval by its definition."""
    a, b, c = 1 + Z * Z / n, -(2 * x / n + Z * Z / n), (x / n) ** 2
    root = (b * b - 4 * a * c) ** 0.5
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@pytest.mark.parametrize(
    # R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in
    # Medicine 17 (1998), table II, method 10: the lower bound of the difference of the two shares.
    ("high", "low", "bound"),
    [((56, 70), (48, 80), 0.0524), ((9, 10), (3, 10), 0.1705), ((6, 7), (2, 7), 0.0582), ((5, 56), (0, 29), -0.0381)],
)
def test_published_differences(high: tuple[int, int], low: tuple[int, int], bound: float) -> None:
    (p, down), (q, up) = (high[0] / high[1], wilson(*high)[0]), (low[0] / low[1], wilson(*low)[1])
    assert round(p - q - ((p - down) ** 2 + (up - q) ** 2) ** 0.5, 4) == bound
    assert above(interval(*high), interval(*low)) is (bound > 0)


@given(a=COUNTS, b=COUNTS)
def test_above_is_newcombes_lower_bound(a: tuple[int, int], b: tuple[int, int]) -> None:
    p, q = a[0] / a[1], b[0] / b[1]
    bound = p - q - ((p - wilson(*a)[0]) ** 2 + (wilson(*b)[1] - q) ** 2) ** 0.5
    if abs(bound) > 1e-9:
        assert above(interval(*a), interval(*b)) is (bound > 0)


@given(a=RATES, b=RATES)
def test_of_two_shares_one_at_most_is_above(a: Rate, b: Rate) -> None:
    assert not (above(a, b) and above(b, a)) and not above(a, a)
    assert not above(a, b) or a.mean > b.mean


@given(n=st.integers(1, 300), data=st.data())
def test_more_successes_stay_above(n: int, data: st.DataObject) -> None:
    low = data.draw(RATES)
    above_it = [above(interval(x, n), low) for x in range(n + 1)]
    assert above_it == sorted(above_it)


def test_thirty_points_of_two_hundred_episodes_are_beyond_chance_and_five_are_not() -> None:
    assert above(interval(100, 200), interval(40, 200)) and not above(interval(50, 200), interval(40, 200))
    assert not above(interval(2, 3), interval(0, 3)) and not above(interval(0, 200), interval(0, 200))


def step(start: int, end: int, n: int = 200) -> tuple[Rate, Rate]:
    return interval(start, n), interval(end, n)


def test_gains_by_hand() -> None:
    # 20 % stay, 20 % become 35 %: 0.15 above 1.96 sqrt(3 x 0.2 x 0.8 / 200 + 0.35 x 0.65 / 200) = 0.1166
    assert gains(step(40, 40), step(40, 70))
    # ... or 30 %: 0.10 below 1.96 sqrt(3 x 0.0008 + 0.00105) = 0.1151
    assert not gains(step(40, 40), step(40, 60))
    # the same in 800 episodes: 0.10 above 0.0576
    assert gains(step(160, 160, 800), step(160, 240, 800))
    # a loss that is smaller is a gain
    assert gains(step(150, 30), step(100, 100)) and not gains(step(100, 100), step(150, 30))


@given(before=STEPS, after=STEPS)
def test_of_two_steps_one_at_most_is_larger(before: tuple[Rate, Rate], after: tuple[Rate, Rate]) -> None:
    assert not (gains(before, after) and gains(after, before)) and not gains(before, before)
    larger = after[1].mean - after[0].mean > before[1].mean - before[0].mean
    assert larger or not gains(before, after)
    turned = gains((after[1], after[0]), (before[1], before[0]))  # both the other way round
    assert gains(before, after) is turned


def test_percent() -> None:
    assert [percent(interval(x, 200)) for x in (0, 1, 67, 200)] == ["0.0", "0.5", "33.5", "100.0"]


WORD = st.text("ab |->é", min_size=1, max_size=30).filter(lambda text: text == text.strip() and " | " not in text)


@given(st.lists(st.builds(Claim, WORD, WORD, WORD, st.booleans()), max_size=5))
def test_a_table_is_aligned(claims: list[Claim]) -> None:
    head, rule, *rows = show(claims).split("\n")
    assert len(rows) == len(claims) and set(rule) == {"-", "+"}
    ends = [i for i, sign in enumerate(rule) if sign == "+"]
    assert len(ends) == 3 and all(line[i] == "|" for line in (head, *rows) for i in ends)
    cells = [
        [line[a:b].strip() for a, b in zip([0, *(e + 1 for e in ends)], [*ends, None], strict=True)] for line in rows
    ]
    assert cells == [[c.claim, c.paper, c.ours, "holds" if c.holds else "fails"] for c in claims]


def test_the_table_in_full() -> None:
    assert show(CLAIMS).split("\n") == [
        "claim                         | paper       | ours         | verdict",
        "------------------------------+-------------+--------------+--------",
        "cloning improves on the start | 6.1 -> 20.0 | 0.0 -> 41.5  | holds",
        "flat                          | no          | 98.5 -> 99.0 | fails",
    ]


def test_claims_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked, file = [], tmp_path / "new" / "claims.json"

    def paper(settings: Reproduction) -> list[Claim]:
        asked.append(settings)
        return CLAIMS

    settings = Reproduction(seed=3, out="here")
    reproduce("ours", settings, {"ours": paper}, str(file))
    assert asked == [settings] and capsys.readouterr().out == f"\n{show(CLAIMS)}\n"
    assert json.loads(file.read_text()) == [
        {"claim": c.claim, "paper": c.paper, "ours": c.ours, "verdict": verdict}
        for c, verdict in zip(CLAIMS, ("holds", "fails"), strict=True)
    ]
    reproduce("ours", settings, {"ours": paper})
    assert [*tmp_path.iterdir()] == [file.parent]


@pytest.mark.parametrize(
    ("name", "seed", "said"),
    [
        ("webagent-r1", 0, "unknown paper webagent-r1; did you mean webagent_r1?"),
        ("deepseek", 0, "unknown paper deepseek; known: ours, webagent_r1"),
        ("ours", -1, "seed must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_is_one_line(name: str, seed: int, said: str) -> None:
    def paper(settings: Reproduction) -> list[Claim]:
        raise AssertionError("nothing may run")

    with pytest.raises(UsageError) as caught:
        reproduce(name, Reproduction(seed=seed), {"webagent_r1": paper, "ours": paper})
    assert str(caught.value) == said
