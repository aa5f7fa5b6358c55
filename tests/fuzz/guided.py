"""Look for bytes that reach new code: ``python tests/fuzz/guided.py rows|answers [-runs=100000] [CORPUS]``.

Guided by coverage, with atheris (``pip install atheris``), where the strategies of hypothesis know only what
somebody thought of. It writes what it finds to a file, ``crash-…``: with that as argument it tries it again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris  # type: ignore[import-not-found,unused-ignore]

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["worker"]):
    from fuzz.promises import check_answer, check_file

    from worker.domain.badge import Badge
    from worker.domain.job import Job

JOBS = [Job(f"j{n}", Badge("b", n)) for n in range(1, 4)]
SEEDS = {
    "rows": [
        b"badgeMetaId,customerId,earnExpiresOn\n696f0fd40772ad476ecf74ac,7,1705828011\n",
        b'[{"badgeMetaId": "b", "customerId": 7, "earnExpiresOnISO": "2026-12-31T00:00:00Z"}]',
    ],
    "answers": [
        b'[{"data": {"badgeMetaId": "b", "customerId": 1, "earnedBadgeId": "e"}, "errors": null}]',
        b'[{"data": null, "errors": [{"code": 1054, "message": "m"}], "warnings": null}]',
    ],
}


def try_rows(data: bytes) -> None:
    """Take the first byte as the kind of file, the rest as the file."""
    check_file(data[1:], ("-", "f.csv", "f.jsonl", "f.json")[data[0] % 4] if data else "-")


def try_answers(data: bytes) -> None:
    """Take the first byte as the status, the rest as the body."""
    check_answer(data[1:], (200, 201, 400, 422, 500)[data[0] % 5] if data else 200, JOBS)


def main() -> None:
    """Fuzz what the first argument names, from known good inputs on."""
    what = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if what not in SEEDS:
        sys.exit(__doc__)
    tries = {"rows": try_rows, "answers": try_answers}[what]
    with TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[what]):
            (Path(corpus) / str(number)).write_bytes(b"\0" + seed)
        atheris.Setup([*sys.argv, "-max_len=400", corpus], tries)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
