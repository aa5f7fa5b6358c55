"""Draw the end of the demonstration: ``python tests/demo_picture.py`` writes ``deploy/demo.svg``."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "deploy" / "demo.svg"
COLUMNS = "110"
LAST_OF_A_LINE = re.compile(r"^.*\r(?!$)", re.MULTILINE)  # a progress bar redraws itself


def draw() -> None:
    """Run the demonstration at a terminal, and draw what that shows in the end."""
    said = bytearray()

    def read(fd: int) -> bytes:
        said.extend(piece := os.read(fd, 1 << 16))
        return piece

    os.environ |= {"COLUMNS": COLUMNS, "TERM": "xterm-256color"}
    pty.spawn([sys.executable, "-m", "worker.cli", "demo", "--items", "10000"], read)
    console = Console(record=True, file=io.StringIO(), width=int(COLUMNS), force_terminal=True)
    for line in said.decode().replace("\r\n", "\n").split("\n"):
        console.print(Text.from_ansi(LAST_OF_A_LINE.sub("", line)))
    console.save_svg(str(PICTURE), title="badges demo")


if __name__ == "__main__":
    draw()
