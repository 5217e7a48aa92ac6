"""A forum's database: one SQLite file in memory an episode, made from a template in well under a millisecond."""

import sqlite3
from dataclasses import dataclass
from functools import cache
from typing import Literal

from .data import Comment, Talk, Topic

VISITOR = "user"  # who signs what the visitor writes; no member bears this name
Way = Literal["up", "down"]
Title = tuple[int, str]  # a topic's number and title
WORTH: dict[Way, int] = {"up": 1, "down": -1}
_LARGEST = 2**63 - 1  # integer of SQLite; nothing has this id
_SCHEMA = """
CREATE TABLE board (name TEXT);
CREATE TABLE user (name TEXT PRIMARY KEY, karma INTEGER);
CREATE TABLE topic (id INTEGER PRIMARY KEY, title TEXT, board TEXT, author TEXT, votes INTEGER, kind TEXT);
CREATE TABLE comment (id INTEGER PRIMARY KEY, topic INTEGER, user TEXT, text TEXT, product INTEGER);
CREATE TABLE joined (board TEXT UNIQUE);
CREATE TABLE vote (topic INTEGER UNIQUE, worth INTEGER);
CREATE TABLE following (user TEXT UNIQUE);
"""


@dataclass(frozen=True, slots=True)
class State:
    """All that a visitor can change, each part sorted; a task names the state that it wants."""

    joined: tuple[str, ...] = ()
    votes: tuple[tuple[int, int], ...] = ()  # (topic, 1 or -1)
    comments: tuple[tuple[int, str], ...] = ()  # (topic, text)
    posts: tuple[tuple[str, str, str], ...] = ()  # (board, title, kind)
    following: tuple[str, ...] = ()


@cache
def _template() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(_SCHEMA)
        data = bytes(connection.serialize())
    connection.close()
    return data


class Store:
    """Queries over one forum's database; belongs to the thread that made it."""

    def __init__(self, talk: Talk) -> None:
        self._db = db = sqlite3.connect(":memory:", isolation_level=None)
        db.deserialize(_template())
        db.execute("BEGIN")
        db.executemany("INSERT INTO board VALUES (?)", [(name,) for name in talk.boards])
        db.executemany("INSERT INTO user VALUES (?, ?)", talk.karma)
        db.executemany(
            "INSERT INTO topic VALUES (?, ?, ?, ?, ?, NULL)",
            [(t.id, t.title, t.board, t.author, t.votes) for t in talk.topics],
        )
        db.executemany(
            "INSERT INTO comment (topic, user, text, product) VALUES (?, ?, ?, ?)",
            [(t.id, c.user, c.text, c.product) for t in talk.topics for c in t.comments],
        )
        db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    def boards(self) -> list[str]:
        return [name for (name,) in self._db.execute("SELECT name FROM board ORDER BY rowid")]

    def titles(self, board: str) -> list[Title]:
        return self._db.execute("SELECT id, title FROM topic WHERE board = ? ORDER BY id", (board,)).fetchall()

    def topic(self, id: int) -> Topic | None:
        """The topic as it stands, with what the visitor voted and wrote."""
        row = self._db.execute(
            "SELECT id, title, board, author, votes + coalesce(worth, 0) FROM topic "
            "LEFT JOIN vote ON vote.topic = topic.id WHERE id = ?",
            (min(id, _LARGEST),),
        ).fetchone()
        if row is None:
            return None
        id, title, board, author, votes = row
        comments = self._db.execute("SELECT user, text, product FROM comment WHERE topic = ? ORDER BY id", (id,))
        return Topic(id, title, board, author, votes, tuple(Comment(*comment) for comment in comments))

    def search(self, query: str, limit: int = 6) -> list[Title]:
        """Topics whose title shares a word with ``query``, most shared words first."""
        words = set(query.lower().split())
        topics = self._db.execute("SELECT id, title FROM topic ORDER BY id")
        hits = [(len(words & set(title.lower().split())), (id, title)) for id, title in topics]
        return [title for shared, title in sorted(hits, key=lambda hit: -hit[0]) if shared][:limit]

    def karma(self, user: str) -> int | None:
        row = self._db.execute("SELECT karma FROM user WHERE name = ?", (user,)).fetchone()
        return None if row is None else int(row[0])

    def join(self, board: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO joined VALUES (?)", (board,))

    def leave(self, board: str) -> None:
        self._db.execute("DELETE FROM joined WHERE board = ?", (board,))

    def joined(self, board: str) -> bool:
        return self._db.execute("SELECT 1 FROM joined WHERE board = ?", (board,)).fetchone() is not None

    def follow(self, user: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO following VALUES (?)", (user,))

    def unfollow(self, user: str) -> None:
        self._db.execute("DELETE FROM following WHERE user = ?", (user,))

    def follows(self, user: str) -> bool:
        return self._db.execute("SELECT 1 FROM following WHERE user = ?", (user,)).fetchone() is not None

    def vote(self, topic: int, way: Way) -> None:
        """One vote a topic: the same again changes nothing, the other takes its place."""
        change = "INSERT INTO vote VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET worth = excluded.worth"
        self._db.execute(change, (topic, WORTH[way]))

    def comment(self, topic: int, text: str) -> None:
        self._db.execute("INSERT INTO comment (topic, user, text) VALUES (?, ?, ?)", (topic, VISITOR, text))

    def post(self, board: str, title: str, kind: str) -> None:
        """Open a topic on the board, with the one vote of its author."""
        self._db.execute(
            "INSERT INTO topic (title, board, author, votes, kind) VALUES (?, ?, ?, 1, ?)",
            (title, board, VISITOR, kind),
        )

    def state(self) -> State:
        rows = self._db.execute
        return State(
            tuple(name for (name,) in rows("SELECT board FROM joined ORDER BY 1")),
            tuple(rows("SELECT topic, worth FROM vote ORDER BY 1")),
            tuple(rows("SELECT topic, text FROM comment WHERE user = ? ORDER BY 1, 2", (VISITOR,))),
            tuple(rows("SELECT board, title, kind FROM topic WHERE author = ? ORDER BY 1, 2, 3", (VISITOR,))),
            tuple(name for (name,) in rows("SELECT user FROM following ORDER BY 1")),
        )

    def status(self) -> list[tuple[str, list[str]]]:
        """What every page shows of the state: a label, and what it is said of in the order of doing."""
        direction = "SELECT iif(worth = 1, 'up ', 'down ') || title FROM vote v JOIN topic t ON t.id = v.topic"
        said = "SELECT title || ' ' || text FROM comment c JOIN topic t ON t.id = c.topic WHERE user = ?"
        posted = "SELECT title || ' ' || kind || ' ' || board FROM topic WHERE author = ?"
        found = (
            ("joined", self._names("SELECT board FROM joined ORDER BY rowid")),
            ("voted", self._names(f"{direction} ORDER BY v.rowid")),
            ("commented", self._names(f"{said} ORDER BY c.id", VISITOR)),
            ("posted", self._names(f"{posted} ORDER BY id", VISITOR)),
            ("following", self._names("SELECT user FROM following ORDER BY rowid")),
        )
        return [(label, names) for label, names in found if names]

    def _names(self, query: str, *values: str) -> list[str]:
        return [name for (name,) in self._db.execute(query, values)]
