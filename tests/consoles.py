"""A console in this process, on a port of its own, and a browser without JavaScript that a person uses."""

from __future__ import annotations

import re
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx
import redis
import uvicorn
from shell import complaint

from worker.config import Settings
from worker.store.queue import Queue
from worker.web.console.app import create_app
from worker.web.console.guard import Places
from worker.web.console.service import Console
from worker.web.console.sessions import Sessions


class _Forms(HTMLParser):
    """The forms of a page, each with its action and the fields that it would send."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(
                {"action": given.get("action", ""), "method": given.get("method"), "fields": {}}
            )
        elif given.get("type") == "checkbox" and "checked" not in given:
            pass  # which isn't sent
        elif tag == "input" and self.forms and "name" in given:
            self.forms[-1]["fields"][given["name"]] = given.get("value", "")


class Browser:
    """Somebody with a session, who presses buttons."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def open(self, path: str, *, expect: int = 200) -> str:
        """Return a page; the command that it says does the same can be given as it stands there."""
        answer = self.http.get(path)
        assert answer.status_code == expect, (path, answer.status_code, answer.text)
        for command in re.findall(r'data-copy="badges ([^"]*)"', answer.text):
            assert not complaint(shlex.split(unescape(command))), (path, command)
        return answer.text

    def forms(self, page: str) -> list[dict[str, Any]]:
        """Return the forms of a page."""
        parser = _Forms()
        parser.feed(page)
        return parser.forms

    def form(self, page: str, action: str) -> dict[str, str]:
        """Return the fields of the first form of a page that has this action."""
        fields: dict[str, str] = next(it for it in self.forms(page) if it["action"] == action)["fields"]
        return fields

    @property
    def home(self) -> str:
        """The console's origin."""
        return str(self.http.base_url).rstrip("/")

    def send(self, action: str, fields: dict[str, Any], *, origin: str | None = "") -> httpx.Response:
        """Send a form, by default from the console's origin, and don't go where it leads."""
        headers = {} if origin is None else {"origin": origin or self.home}
        return self.http.post(action, data=fields, headers=headers, follow_redirects=False)

    def press(self, page: str, action: str, **more: str) -> str:
        """Fill in a form of a page and press its button; returns the page where it leads."""
        answer = self.send(action, self.form(page, action) | more)
        assert answer.status_code == 303, answer.text
        return self.open(answer.headers["location"])


def csrf(browser: Browser) -> str:
    """Return the session's token."""
    return browser.form(browser.open("/import"), "signout")["csrf"]


def put(browser: Browser, staged_id: str, offset: int, piece: bytes, *, token: str = "") -> Any:
    """Send a piece."""
    headers = {"origin": browser.home, "x-csrf-token": token or csrf(browser)}
    return browser.http.put(f"/piece?id={staged_id}&offset={offset}", content=piece, headers=headers)


def upload(browser: Browser, name: str, content: bytes) -> str:
    """Upload a file in one piece and return its id."""
    made = browser.send("upload", {"csrf": csrf(browser), "name": name, "size": str(len(content))})
    assert made.status_code == 200, made.text
    staged_id: str = made.json()["id"]
    assert put(browser, staged_id, 0, content).json() == {"offset": len(content)}
    return staged_id


def words(page: str) -> str:
    """Return what a page says, without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page))).strip()


@contextmanager
def console(
    client: redis.Redis, *, clock: Callable[[], float] | None = None, lasts_s: float = 3600, **settings: Any
) -> Iterator[tuple[Console, httpx.Client]]:
    """Serve a console over a store, with a client of it that has no session yet."""
    queue = Queue(client)
    sessions = Sessions(lasts_s=lasts_s, **({"clock": clock} if clock else {}))
    here = Console(Settings(**settings), queue, queue, sessions)
    app = create_app(here, places=lambda: Places.of(here.port, here.settings.console_public_url))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here.port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        home = f"http://127.0.0.1:{here.port}"
        try:
            with httpx.Client(base_url=home, follow_redirects=True, trust_env=False, timeout=30) as http:
                yield here, http
        finally:
            server.should_exit = True
            thread.join(10)
            here.looks.close()
            here.acts.close()


@contextmanager
def browsing(client: redis.Redis, **settings: Any) -> Iterator[tuple[Console, Browser]]:
    """Serve a console to somebody who came in by its link."""
    with console(client, **settings) as (here, http):
        assert http.get(f"/?token={here.sessions.token}").status_code == 200
        yield here, Browser(http)
