"""The browser of a person who agrees: it follows redirects, keeps cookies, and presses buttons."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx2

STEPS_MAX: Final = 20
"""Pages and redirects of one sign-in; a real one has seven."""

ANSWER_SECONDS_MAX: Final = 15.0


class _Page(HTMLParser):
    """What a person can do on a page: its first form with its buttons, and its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.buttons: list[tuple[str, str]] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = self.action or given["action"]
        elif tag == "button":
            self.buttons.append((given.get("name", ""), given.get("value", "")))
        elif tag == "a":
            self.links.append(given["href"])


class Browser:
    """One browser of one person. What it was shown is kept for the tests to look at."""

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._http = httpx2.Client(timeout=ANSWER_SECONDS_MAX, trust_env=False)
        self.pages: list[str] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def visit(self, url: str, decision: str = "approve") -> str:
        """Does what the pages ask for until it is sent away from the authority, and gives the address it is sent to."""
        response = self._http.get(url)
        for _ in range(STEPS_MAX):
            if response.is_redirect:
                target = urljoin(str(response.url), response.headers["location"])
                if not self._is_ours(target):
                    return target
                response = self._http.get(target)
                continue
            self.pages.append(response.text)
            assert response.status_code == 200, f"{response.url}: {response.status_code}\n{response.text}"
            response = self._act(response, decision)
        raise AssertionError(f"still at {response.url} after {STEPS_MAX} steps")

    def _act(self, response: httpx2.Response, decision: str) -> httpx2.Response:
        page, here = _Page(response.text), str(response.url)
        if page.action is None:
            assert page.links, f"nothing to do on {here}:\n{response.text}"
            return self._http.get(urljoin(here, page.links[0]))
        fields = dict(button for button in page.buttons if button == ("decision", decision))
        # What browsers say of themselves when a form of the page's own origin is sent.
        headers = {"Origin": self._authority, "Sec-Fetch-Site": "same-origin"}
        return self._http.post(urljoin(here, page.action), data=fields, headers=headers)

    def _is_ours(self, url: str) -> bool:
        there, ours = urlsplit(url), urlsplit(self._authority)
        return (there.scheme, there.netloc) == (ours.scheme, ours.netloc)
