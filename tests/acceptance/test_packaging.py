"""The wheel carries all that the program reads beside its modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import LONG

ROOT = Path(__file__).parents[2]
SCRIPTS_FOUND = ROOT / "tests/programs/scripts_found.py"


@LONG
def test_an_installed_wheel_finds_its_scripts(tmp_path: Path) -> None:
    """Built, and installed into a fresh environment: every Lua file and the watcher are there."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-q",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True)
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    wanted = {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "worker").rglob("*") if p.suffix in {".py", ".lua"}
    }
    wanted |= {f"worker/docs/{page.name}" for page in (ROOT / "deploy/docs").glob("*.md")}
    assert wanted <= there
    loaded = subprocess.run(
        [sys.executable, SCRIPTS_FOUND], cwd=tmp_path, env={"PYTHONPATH": str(target)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    number, where = loaded.stdout.split()
    assert int(number) == len(list((ROOT / "worker/store/lua").glob("[a-z]*.lua")))
    assert Path(where).is_relative_to(target)
