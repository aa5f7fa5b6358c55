"""The errors this program raises, by their families.

    BadgesError
    ├── ConfigError          a setting is wrong; the command line exits 2
    │   ├── NotAllowed       an act that can lose work or issue twice, without the option that allows it
    │   ├── Ambiguous        a name that could mean several
    │   └── UnusableServer   a Redis that no promise can be kept with
    ├── FileError            a file to import can't be read at all
    │   └── ColumnsUnclear   its columns stand for no fields yet; what they may stand for
    ├── EmbeddedServerError  the embedded server can't be started or reached
    ├── StoreError           Redis can't do what was asked of it
    │   ├── NewerStore       a newer version of this program changed what is in Redis
    │   ├── NotDurable       what was written can't be made durable in time
    │   │   └── LogLost      the server has stopped writing its append-only file
    │   └── NoRoom           the queue holds as many jobs as it may, or Redis all that it can
    ├── ScriptError          one of this program's scripts failed: a bug
    ├── NotFound             no job, run or org of that name
    └── DeliveryFailed       a batch in which nothing was issued because the call failed

What the vendor answers is never an exception: it is an outcome (``vendor/verdict.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


class BadgesError(Exception):
    """Base of all errors of this program; its text is a whole sentence for a person."""


class ConfigError(BadgesError):
    """A setting is missing or wrong; the text names it and says how to correct it."""


class NotAllowed(ConfigError):  # noqa: N818 - reads as what is the case, as below
    """An act can lose work or issue a badge twice, and nobody allowed it; nothing was done."""


class Ambiguous(ConfigError):  # noqa: N818 - as above
    """A name could mean several; the text lists them."""


class UnusableServer(ConfigError):  # noqa: N818 - as above
    """Redis is too old, or throws keys away as it likes; the text says what it is and what to use instead."""


class FileError(BadgesError):
    """A whole file can't be read; the text says why, and what would be accepted."""


class ColumnsUnclear(FileError):  # noqa: N818 - reads as what is the case, as above
    """Columns of a file stand for no field, or fields lack a column.

    ``proposed`` is what the columns that nobody knows may stand for; ``None`` where that is nothing.
    ``given`` are the fields that the other columns stand for.
    """

    def __init__(self, text: str, proposed: Mapping[str, str | None], given: Collection[str] = ()) -> None:
        super().__init__(text)
        self.proposed, self.given = dict(proposed), frozenset(given)


class EmbeddedServerError(BadgesError):
    """The embedded server can't run here; the text says why and what to do instead."""


class StoreError(BadgesError):
    """Redis refused or could not be reached: what was asked may have been done, and repeating it is safe."""


class NewerStore(StoreError):  # noqa: N818 - reads as what is the case, as below
    """What is in Redis is another version's, mostly a newer one's, and must be left alone."""


class NotDurable(StoreError):  # noqa: N818 - reads as what is the case, like KeyError's cousins in httpx
    """A write was made, but the server didn't confirm in time that it is on disk."""


class LogLost(NotDurable):  # a server that was changed while we run
    """The server has stopped writing its append-only file; nothing is claimed until it does again."""


class NoRoom(StoreError):  # noqa: N818 - as above
    """More jobs can't come in at present; later they can, and handing in the same again is safe.

    ``accepted`` is how many of what was handed in were accepted before it was full.
    """

    def __init__(self, reason: str, *, accepted: int = 0) -> None:
        so_far = (
            f"{accepted:,} {'was' if accepted == 1 else 'were'} accepted before that; " if accepted else ""
        )
        super().__init__(f"{reason}; {so_far}handing in the same again later is safe")
        self.reason = reason
        self.accepted = accepted


class ScriptError(BadgesError):
    """A script of this program failed in Redis: a bug; trying again won't help."""


class NotFound(BadgesError):  # noqa: N818 - as above
    """There is nothing of the name that was given."""


class DeliveryFailed(BadgesError):  # noqa: N818 - shown as the task's failure in Flower
    """Nothing of a batch was issued because the call failed; the jobs are settled all the same."""
