"""Which of several servers a request goes to: where its session is, where its beginning is, where there is room."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

BLOCK = 16  # tokens that a server's prefix cache keeps together


class Balance:
    """Deals requests to ``count`` servers; pure bookkeeping, for one thread.

    A session stays with its server: its past is in that server's cache. A new session goes to the server that was
    sent the longest beginning of its prompt, as the members of a group share theirs, unless that one has more than
    ``slack`` requests more under way than the least busy one. ``kept`` blocks of 16 tokens and as many sessions are
    remembered a server.
    """

    def __init__(self, count: int, *, slack: int = 16, kept: int = 65536) -> None:
        self.slack, self.kept = slack, kept
        self.busy = [0] * count  # requests under way
        self._held = [OrderedDict[int, None]() for _ in range(count)]  # beginnings by hash, the latest last
        self._home = OrderedDict[str, int]()

    def begin(self, session: str, ids: Sequence[int], live: Sequence[int]) -> int:
        """The server of a request, one of ``live``, at least one; counted until ``end``."""
        marks = list(_beginnings(ids))
        home = self._home.get(session, -1)
        chosen = home if home in live else self._nearest(marks, live)
        if session:
            self._home[session] = chosen
            self._home.move_to_end(session)
            if len(self._home) > self.kept:
                self._home.popitem(last=False)
        held = self._held[chosen]
        for mark in marks:
            held[mark] = None
            held.move_to_end(mark)
        while len(held) > self.kept:
            held.popitem(last=False)
        self.busy[chosen] += 1
        return chosen

    def end(self, server: int) -> None:
        """One of its requests is over, however."""
        self.busy[server] -= 1

    def forget(self, server: int) -> None:
        """Its cache is empty: it has new weights, or is another process."""
        self._held[server].clear()

    def _nearest(self, marks: Sequence[int], live: Sequence[int]) -> int:
        least = min(self.busy[s] for s in live)
        near = [s for s in live if self.busy[s] <= least + self.slack]
        return min(near, key=lambda s: (-self._shared(s, marks), self.busy[s], s))

    def _shared(self, server: int, marks: Sequence[int]) -> int:
        """Blocks at the beginning that it was sent."""
        held = self._held[server]
        return next((n for n, mark in enumerate(marks) if mark not in held), len(marks))


def _beginnings(ids: Sequence[int]) -> Iterator[int]:
    """A hash of the first block, of the first two, ..."""
    mark = 0
    for end in range(BLOCK, len(ids) + 1, BLOCK):
        mark = hash((mark, tuple(ids[end - BLOCK : end])))
        yield mark
