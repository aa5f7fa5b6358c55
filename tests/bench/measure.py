"""What processes cost, from /proc: processor time and memory of a whole tree (Linux only)."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> list[str]:
    """Return the fields of a process after its name, or none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(*roots: int) -> list[int]:
    """Return those processes and all that descend from them."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children[int(fields[1])].append(int(entry.name))
    found = list(roots)
    for pid in found:
        found += children[pid]
    return found


def cpu_s(*roots: int) -> float:
    """Return the processor time that the trees have used, their children that ended included."""
    return sum(sum(map(int, fields[11:15])) for pid in tree(*roots) if (fields := _stat(pid))) / _TICKS


def rss_mb(*roots: int) -> float:
    """Return the resident memory of the trees, in MB; what they share counts for each."""
    return sum(int(fields[21]) for pid in tree(*roots) if (fields := _stat(pid))) * _PAGE / 1e6


def load() -> float:
    """Return the machine's load over the last minute."""
    return os.getloadavg()[0]


def machine() -> str:
    """Describe the machine in a line."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")
    ]
    gigabytes = os.sysconf("SC_PHYS_PAGES") * _PAGE / 1e9
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores ({models[0] if models else platform.machine()}), {gigabytes:.0f} GB, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )
