"""Who is at the console: a link that works once begins a session, which lives in this process alone."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST = 100  # sessions at once; the oldest goes


@dataclass(slots=True)
class Session:
    """Somebody who came in by a link. ``csrf`` stands in every form, so that no other site can send one."""

    id: str
    csrf: str
    until: float


class Sessions:
    """The sessions there are, and the link that begins the next one.

    Args:
        lasts_s: how long a session lasts after it was last used.
        clock: seconds that only grow.
    """

    def __init__(self, *, lasts_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lasts_s, self._clock, self._lock = lasts_s, clock, threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._token = secrets.token_urlsafe(24)

    @property
    def token(self) -> str:
        """What the next link says; it works once."""
        return self._token

    def begin(self, token: str) -> Session | None:
        """Begin a session if this is the link's token, which is then used up."""
        with self._lock:
            if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
                return None
            self._token = secrets.token_urlsafe(24)
            until = self._clock() + self._lasts_s
            session = Session(secrets.token_urlsafe(24), secrets.token_urlsafe(24), until)
            self._sessions[session.id] = session
            while len(self._sessions) > MOST:
                del self._sessions[next(iter(self._sessions))]
            return session

    def of(self, session_id: str) -> Session | None:
        """Return the session of this id, if it hasn't ended; being used, it lasts longer."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or session.until < self._clock():
                self._sessions.pop(session_id, None)
                return None
            session.until = self._clock() + self._lasts_s
            return session

    def end(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(session.id, None)
