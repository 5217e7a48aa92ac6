"""The forum's task templates in four levels, split by template here and by data in ``words.pairs``."""

from collections.abc import Callable, Iterable

import numpy as np

from ..engine import Site
from ..task import Evaluator, StateMatch, Step, StringMatch, UrlMatch, because, click
from ..template import Draft, Job, Template
from ..words import Split
from .data import KINDS, Talk, Topic, grow, phrase
from .store import State

FORUM = "forum"
Way = tuple[Step, ...]


def site(talk: Talk) -> Callable[[], Site]:
    """What makes the forum's site."""

    def make() -> Site:
        from .app import ForumSite  # here, so that importing the environments needs no extra

        return ForumSite(talk)

    return make


def ends(state: State) -> StateMatch:
    """The forum ends in this state and no other."""
    return StateMatch(FORUM, state)


def pick(talk: Talk, rng: np.random.Generator, count: int = 1) -> list[Topic]:
    """``count`` topics, each of another board."""
    shelves = [[t for t in talk.topics if t.board == board] for board in pick_boards(talk, rng, count)]
    return [shelf[int(rng.integers(len(shelf)))] for shelf in shelves]


def pick_boards(talk: Talk, rng: np.random.Generator, count: int = 1) -> list[str]:
    return [talk.boards[i] for i in rng.permutation(len(talk.boards))[:count]]


def named(topics: Iterable[Topic]) -> str:
    return " and ".join(f"{t.title} from {t.board}" for t in topics)


def walk(topic: Topic) -> Way:
    """From home to the topic."""
    return because(f"need {topic.title}", *click(topic.board, topic.title))


def vote_up(topics: Iterable[Topic]) -> Way:
    """Vote for each topic, starting at home and ending at the last of them."""
    return _tour(walk(t) + because(f"vote up {t.title}", *click("vote up")) for t in topics)


def upvoted(topics: Iterable[Topic]) -> State:
    """The state after a vote for each topic."""
    return State(votes=tuple(sorted((t.id, 1) for t in topics)))


def join_boards(boards: Iterable[str]) -> Way:
    """Join each board, starting at home."""
    return _tour(because(f"join {board}", *click(board, "join")) for board in boards)


def _tour(ways: Iterable[Way]) -> Way:
    """The ways, each of which starts at home, one after another."""
    return tuple(step for way in ways for step in (*because(way[0].thought, *click("home")), *way))[1:]


def _search(topic: Topic) -> Way:
    return because(f"search {topic.title}", Step("Search", "search box", topic.title), *click(topic.title))


def _comment(text: str) -> Way:
    return because(f"comment {text}", Step("Type", "comment", text), *click("send comment"))


def _votes(goal: str, topic: Topic, gold: Way, start: str = "/") -> Job:
    votes = str(topic.votes)
    return Job(goal, gold, (StringMatch(votes), ends(State())), start, votes)


def open_topic(talk: Talk, rng: np.random.Generator) -> Job:
    (t,) = pick(talk, rng)
    evaluators: tuple[Evaluator, ...] = (UrlMatch(FORUM, f"/topic/{t.id}"), ends(State()))
    return Job(f"open {t.title}", walk(t)[1:], evaluators, f"/board/{t.board}")


def read_votes(talk: Talk, rng: np.random.Generator) -> Job:
    (t,) = pick(talk, rng)
    return _votes(f"tell the votes of {t.title}", t, walk(t)[1:], f"/board/{t.board}")


def search_votes(talk: Talk, rng: np.random.Generator) -> Job:
    (t,) = pick(talk, rng)
    return _votes(f"search {t.title} and tell the votes", t, _search(t))


def walk_votes(talk: Talk, rng: np.random.Generator) -> Job:
    (t,) = pick(talk, rng)
    return _votes(f"tell the votes of {named([t])}", t, walk(t))


def search_vote(talk: Talk, rng: np.random.Generator) -> Job:
    (t,) = pick(talk, rng)
    gold = _search(t) + because(f"vote up {t.title}", *click("vote up"))
    return Job(f"search {t.title} and vote up", gold, (ends(upvoted([t])),))


def follow_author(talk: Talk, rng: np.random.Generator) -> Job:
    (t,) = pick(talk, rng)
    gold = walk(t) + because("follow the author", *click(t.author, "follow"))
    return Job(f"follow the author of {named([t])}", gold, (ends(State(following=(t.author,))),))


def post_one(talk: Talk, rng: np.random.Generator) -> Job:
    (board,), kind = pick_boards(talk, rng), KINDS[int(rng.integers(len(KINDS)))]
    title = talk.unwritten[int(rng.integers(len(talk.unwritten)))]
    choose = Step("Select Dropdown Option", "kind", kind)
    gold = because(f"post {title}", *click(board, "write post"), Step("Type", "title", title))
    gold += because(f"as {kind}", choose, *click("send post"))
    return Job(f"post {title} as {kind} in {board}", gold, (ends(State(posts=((board, title, kind),))),))


def comment(topics: list[Topic], rng: np.random.Generator) -> Job:
    """A comment on each of the topics."""
    texts = [phrase(rng) for _ in topics]
    pairs = list(zip(topics, texts, strict=True))
    goal = " and ".join(f"comment {text} on {named([t])}" for t, text in pairs)
    state = State(comments=tuple(sorted((t.id, text) for t, text in pairs)))
    return Job(goal, _tour(walk(t) + _comment(text) for t, text in pairs), (ends(state),))


def vote(topics: list[Topic]) -> Job:
    """A vote up for each of the topics."""
    return Job(f"vote up {named(topics)}", vote_up(topics), (ends(upvoted(topics)),))


def join(boards: list[str]) -> Job:
    """The boards joined and nothing else."""
    return Job(f"join {' and '.join(boards)}", join_boards(boards), (ends(State(joined=tuple(sorted(boards)))),))


def _template(name: str, level: int, split: Split, make: Callable[[Talk, np.random.Generator], Job]) -> Template:
    def draft(rng: np.random.Generator, data: Split) -> Draft:
        talk = grow(rng, data)
        return Draft(make(talk, rng), {FORUM: site(talk)})

    return Template(name, level, split, draft)


TEMPLATES: tuple[Template, ...] = (
    _template("open_topic", 1, "train", open_topic),
    _template("read_votes", 1, "train", read_votes),
    _template("search_votes", 2, "train", search_votes),
    _template("vote_one", 2, "train", lambda talk, rng: vote(pick(talk, rng))),
    _template("join_one", 2, "train", lambda talk, rng: join(pick_boards(talk, rng))),
    _template("comment_one", 2, "train", lambda talk, rng: comment(pick(talk, rng), rng)),
    _template("follow_author", 2, "validation", follow_author),
    _template("search_vote", 2, "validation", search_vote),
    _template("walk_votes", 2, "test", walk_votes),
    _template("post_one", 3, "train", post_one),
    _template("vote_two", 3, "train", lambda talk, rng: vote(pick(talk, rng, 2))),
    _template("join_two", 3, "test", lambda talk, rng: join(pick_boards(talk, rng, 2))),
    _template("vote_three", 4, "train", lambda talk, rng: vote(pick(talk, rng, 3))),
    _template("comment_two", 4, "train", lambda talk, rng: comment(pick(talk, rng, 2), rng)),
)
