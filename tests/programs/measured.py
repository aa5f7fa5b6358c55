"""Runs a command and prints the most memory that it ever had, in KiB.

It is small itself: a child's measure begins with what it was forked from.
"""

import resource
import subprocess
import sys

subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
