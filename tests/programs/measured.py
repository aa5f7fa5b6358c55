"""Runs a command and prints the most memory that it ever had, in KiB; some of its rows may be invalid (3).

It is small itself: a child's measure begins with what it was forked from.
"""

import resource
import subprocess
import sys

done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
if done.returncode not in (0, 3):
    sys.exit(f"exit status {done.returncode}: {done.args}")
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
