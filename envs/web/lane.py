"""What goes through one episode's lane: requests to its sites are answered, all others refused and counted."""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal
from urllib.parse import unquote

from .engine import Receive, Scope, Send, Site

Fate = Literal["page", "empty", "download", "away"]
# Pages may run scripts and send forms; the browser itself keeps them from windows, dialogs and downloads.
_CAGE = (b"content-security-policy", b"sandbox allow-scripts allow-same-origin allow-forms allow-top-navigation")


class Traffic:
    """One episode's traffic, in the thread that serves its ``sites``.

    ``fate`` is what became of the last page (not image, script or the like) that was asked for; ``failed`` is what a
    site raised first. Requests that the page of the episode before, with token ``previous``, still sends are refused
    and not counted.
    """

    def __init__(self, sites: Mapping[str, Site], token: str, previous: str = "") -> None:
        self.sites = sites
        self.hosts = {f"{name}.{token}.localhost": name for name in sites}
        self._previous = previous.encode()
        self.refused = 0
        self.fate: Fate = "page"
        self.failed: Exception | None = None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that came to a proxy: its target is a URL, or a host and port for CONNECT."""
        target: bytes = scope["raw_path"]
        headers = dict(scope["headers"])
        host, _, path = target.removeprefix(b"http://").partition(b"/")
        name = self.hosts.get(host.decode("latin-1")) if target.startswith(b"http://") else None
        if name is None:
            await self._refuse(target, headers, send)
            return
        scope["raw_path"] = b"/" + path
        scope["path"] = unquote(scope["raw_path"].decode("ascii"))
        await self._visit(self.sites[name], headers.get(b"sec-fetch-dest") == b"document", scope, receive, send)

    async def _visit(self, site: Site, page: bool, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def caged(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), _CAGE]
                if page:
                    self.fate = _fate(message)
            await send(message)
            if message.get("more_body"):
                await asyncio.sleep(0)  # where a stream that nobody reads any more can be cancelled

        try:
            await site(scope, receive, caged)
        except Exception as error:  # whatever it is, it reaches the engine by ``Lane.check``
            self.failed = self.failed or error
            if not begun:
                await _answer(send, 500, b"the site failed")

    async def _refuse(self, target: bytes, headers: Mapping[bytes, bytes], send: Send) -> None:
        said = (target, headers.get(b"referer", b""), headers.get(b"origin", b""))
        if not self._previous or not any(self._previous in words for words in said):
            self.refused += 1
            if b"upgrade-insecure-requests" in headers:  # which browsers send with pages only
                self.fate = "away"
        # An empty answer is no page: the browser stays where it is, and its history too.
        await _answer(send, 403 if not target.startswith(b"http://") else 204, b"")


def _fate(start: Mapping[str, Any]) -> Fate:
    for name, value in start["headers"]:
        if name.lower() == b"content-disposition" and value.split(b";")[0].strip().lower() == b"attachment":
            return "download"
    return "empty" if start["status"] in (204, 205) else "page"


async def _answer(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})
