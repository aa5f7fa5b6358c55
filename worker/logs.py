"""Logs: structlog throughout, as JSON lines or for a console; Celery's and httpx's go through it too."""

from __future__ import annotations

import logging
import logging.config
from collections import Counter
from typing import Literal

import structlog
from structlog.types import EventDict, Processor

from worker.config import Settings
from worker.domain.text import plain, plain_lines

# They say per request and per task what our own line per batch says better.
QUIET = ("httpx", "httpcore", "celery.worker.strategy", "celery.app.trace")
LINE_BYTES = 10_000  # on a console


class Seldom:
    """Says which repetitions of something deserve a line: the first, the second, the fourth and so on."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def tells(self, name: str) -> bool:
        """Count one more; answers whether it deserves a line."""
        self.times[name] += 1
        return self.times[name] & (self.times[name] - 1) == 0

    def over(self) -> None:
        """Reset: things go well again."""
        if self.times:
            self.times.clear()


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def configure(settings: Settings) -> None:
    """Send every log line of the process to standard error, in the format that is configured."""
    handler = {"class": "logging.StreamHandler", "formatter": "structlog", "stream": "ext://sys.stderr"}
    quiet = "DEBUG" if settings.log_level == "debug" else "WARNING"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structlog": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": _SHARED,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        structlog.processors.format_exc_info,
                        *_renderers(settings.log_format),
                    ],
                }
            },
            "handlers": {"stderr": handler},
            "root": {"handlers": ["stderr"], "level": settings.log_level.upper()},
            "loggers": {name: {"level": quiet} for name in QUIET},
        }
    )
    logging.captureWarnings(capture=True)  # Celery's too, such as the one about running as root
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _renderers(log_format: Literal["json", "console"]) -> list[Processor]:
    if log_format == "console":
        # "Plain" as it takes the traceback as it is; it would warn of any other formatter.
        return [_cleaned, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.JSONRenderer()]


def _cleaned(_: object, __: str, event: EventDict) -> EventDict:
    """Take out what would steer a terminal: words of anybody's get into a line. JSON escapes them itself."""
    for name, value in event.items():
        if name in ("exception", "stack"):  # of many lines, none of which may look like a log line
            event[name] = plain_lines(str(value), LINE_BYTES)
        elif isinstance(value, str):
            event[name] = plain(value, LINE_BYTES)
    return event
