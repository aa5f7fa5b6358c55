"""Try 100,000 rows and as many answers: ``python tests/fuzz/long.py [--rows N] [--answers N] [--seed N]``.

Half of the rows are in whole files, half in damaged ones. A failure is shrunk and shown with its input; the
same seed finds it again.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
from pathlib import Path

ROWS_PER_FILE = 20


def main() -> int:
    """Run the same tests as every other run does, with as many inputs as are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    files = max(1, asked.rows // 2 // ROWS_PER_FILE)
    env = os.environ | {"FUZZ_FILES": str(files), "FUZZ_ANSWERS": str(asked.answers)}
    here = Path(__file__).parent
    command = [
        "-m",
        "pytest",
        str(here / "test_fuzz.py"),
        f"--hypothesis-seed={asked.seed}",
        "--timeout=0",
        "-qs",
    ]
    return subprocess.run([sys.executable, *command], env=env, cwd=here.parent.parent, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
