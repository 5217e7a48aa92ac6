"""The addresses of one episode: its own sites in process, and nothing else."""

import re
from collections.abc import Mapping

import httpx

from ..errors import ActionError, EnvError
from .document import Document, Submission, join
from .effects import AWAY, DOWNLOAD
from .engine import Site
from .transport import Answer, Headers, ask

MAX_REDIRECTS = 10
_PLAIN = re.compile(r"http://([a-z0-9.-]+)(/[\w/~?=&+-]*)", re.ASCII)  # spelled as a browser spells it
_FORM = (b"content-type", b"application/x-www-form-urlencoded")


class Network:
    """Loads pages of ``sites``; ``refused`` counts the requests for any other address, which are never sent."""

    def __init__(self, sites: Mapping[str, Site], token: str) -> None:
        self._token = token
        self._sites = {f"{name}.{token}.localhost": site for name, site in sites.items()}
        self._cookies = httpx.Cookies()
        self.refused = 0

    def address(self, site: str, path: str) -> str:
        return f"http://{site}.{self._token}.localhost{path}"

    def own(self, target: str) -> str:
        """The URL as a browser spells it; raises ActionError when it leads away from the episode's sites."""
        plain = _PLAIN.fullmatch(target)
        if plain and plain[1] in self._sites:
            return target
        try:
            url = httpx.URL(target)
            url = url.copy_with(userinfo=b"", raw_path=url.raw_path)  # without a name or port 80, with a path
        except httpx.InvalidURL as error:
            self.refused += 1
            raise ActionError(AWAY) from error
        if url.netloc.decode() not in self._sites or url.scheme != "http":
            self.refused += 1
            raise ActionError(AWAY)
        front, mark, query = str(url).partition("?")
        return front + mark + query.replace("'", "%27")

    def load(self, url: str, sent: Submission | None = None) -> Document | None:
        """The page that a GET of ``url`` ends at, or a POST of what was ``sent``; None for an answer without a page.

        Raises EnvError when the site fails or redirects in a loop, ActionError for a download.
        """
        for _ in range(MAX_REDIRECTS):
            front = url.split("#")[0].removeprefix("http://")
            host, _, rest = front.partition("/")
            answer = self._ask(host, f"/{rest}", sent)
            target = answer.header(b"location") if answer.status in (301, 302, 303, 307, 308) else None
            if target is None:
                if (answer.header(b"content-disposition") or "").split(";")[0].strip().lower() == "attachment":
                    raise ActionError(DOWNLOAD)
                return None if answer.status in (204, 205) else Document(answer.text, url, host.partition(".")[0])
            url = self.own(join(url, target))
            sent = sent if answer.status in (307, 308) else None
        raise EnvError(f"/{rest} redirects more than {MAX_REDIRECTS} times")

    def _ask(self, host: str, target: str, sent: Submission | None) -> Answer:
        """One request, with the cookies that its site has set."""
        path, _, query = target.partition("?")
        headers: Headers = [_FORM] if sent else []
        asked = httpx.Request("GET", f"http://{host}{target}") if self._cookies else None
        if asked:
            self._cookies.set_cookie_header(asked)
            headers += [(b"cookie", asked.headers["cookie"].encode())] if "cookie" in asked.headers else []
        body = sent.fields.encode() if sent else b""
        answer = ask(self._sites[host], "POST" if sent else "GET", host, path.encode(), query.encode(), headers, body)
        if any(name == b"set-cookie" for name, _ in answer.headers):
            asked = asked or httpx.Request("GET", f"http://{host}{target}")
            self._cookies.extract_cookies(httpx.Response(answer.status, headers=answer.headers, request=asked))
        return answer
