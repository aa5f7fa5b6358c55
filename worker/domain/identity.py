"""What a job's id is made of. It is a format for ever, because ids are remembered for good.

The first ten letters stand for org, badge and customer, the last ten for the whole content: so jobs of one
badge and customer are found by a prefix, and two jobs have one id only if all of it is the same. Where a
producer gives an id of its own, this one is kept beside it, as its fingerprint. So a duplicate is a job whose
id is known; what counts as content says ``Badge.content``, what is done about one ``store/lua/enqueue.lua``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from uuid import UUID

from worker.domain.badge import Badge, one_case

FORMAT = "1"
PAIR_LETTERS = 10
_BASE32_PAIRS = [a + b for a, b in product("abcdefghijklmnopqrstuvwxyz234567", repeat=2)]


def short_hash(*parts: str) -> str:
    """Return 20 letters and digits (100 bits) that stand for ``parts``; safe in a shell and in a key."""
    digest = blake2b("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=13).digest()
    bits = int.from_bytes(digest) >> 4
    # As base64.b32encode would write it, in a third of its time: every job has such an id.
    return "".join([_BASE32_PAIRS[bits >> shift & 1023] for shift in range(90, -1, -10)])


def content_id(org: str, badge: Badge, *repeated: str) -> str:
    """Return what stands for this content within this org: 20 letters and digits.

    ``repeated`` makes it another one: the run and the row of a badge that is meant to be issued once more
    (``--allow-duplicates``), or the dead letter whose place it takes.
    """
    pair = f"{FORMAT}\x00{org}\x00{one_case(badge.badge_meta_id)}\x00{badge.customer_id}"
    whole = f"{FORMAT}\x00{org}\x00{badge.content()}"
    return _letters(pair) + _letters("\x00".join((whole, *repeated)) if repeated else whole)


def mended_id(org: str, letter: str, was: Badge, becomes: Badge) -> str:
    """Return the id of the job that takes a dead letter's place.

    Where the letter's was not its content's, the new one isn't either: a customer who rightly gets the same
    badge twice has two jobs, also when both are mended.
    """
    return content_id(org, becomes, *(() if letter == content_id(org, was) else (letter,)))


@lru_cache(maxsize=256)  # of the batches in flight; a call and what is said of it ask for it
def request_id(batch: str) -> str:
    """Return the UUID that a batch's call carries: made of the batch's id, so that it needs no keeping.

    The same request sent again, whose batch has a number behind its first one's id, carries the same.
    """
    first, _, _ = batch.partition(".")
    return str(UUID(bytes=blake2b(first.encode(), digest_size=16).digest(), version=4))


def pair_letters(org: str, badge_id: str, customer: int) -> str:
    """Return what all ids of one badge of one customer begin with."""
    return _letters(f"{FORMAT}\x00{org}\x00{one_case(badge_id)}\x00{customer}")


def content_ids(org: str) -> Callable[[str], Callable[[str, str], str]]:
    """Return what makes ids for an org as ``content_id`` does: for a badge, of customer and rest.

    The badge is in one case; ``rest`` is what follows it in the content that ``content_id`` hashes. All of it
    is ASCII.
    """
    head = f"{FORMAT}\x00{org}\x00".encode("utf-8", "surrogatepass")

    def ids_of(badge: str) -> Callable[[str, str], str]:
        # What all its customers have in common is hashed once.
        of_pair = blake2b(head + f"{badge}\x00".encode(), digest_size=7).copy
        of_whole = blake2b(head + f"{badge}\n".encode(), digest_size=7).copy
        pairs, number = _BASE32_PAIRS, int.from_bytes

        def id_of(customer: str, rest: str) -> str:
            pair, whole = of_pair(), of_whole()
            pair.update(customer.encode())
            whole.update(rest.encode())
            a, b = number(pair.digest()) >> 6, number(whole.digest()) >> 6
            return (  # both as _ten writes them
                f"{pairs[a >> 40]}{pairs[a >> 30 & 1023]}{pairs[a >> 20 & 1023]}{pairs[a >> 10 & 1023]}"
                f"{pairs[a & 1023]}{pairs[b >> 40]}{pairs[b >> 30 & 1023]}{pairs[b >> 20 & 1023]}"
                f"{pairs[b >> 10 & 1023]}{pairs[b & 1023]}"
            )

        return id_of

    return ids_of


def _letters(text: str) -> str:
    """Return ten letters and digits (50 bits) that stand for a text."""
    return _ten(text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass"))


def _ten(written: bytes) -> str:
    bits = int.from_bytes(blake2b(written, digest_size=7).digest()) >> 6
    pairs = _BASE32_PAIRS  # written out, since every row of a file comes by here twice
    return (
        f"{pairs[bits >> 40]}{pairs[bits >> 30 & 1023]}{pairs[bits >> 20 & 1023]}"
        f"{pairs[bits >> 10 & 1023]}{pairs[bits & 1023]}"
    )
