"""Prints how many scripts an installed package finds, and where it lies."""

from worker.store.scripts import __file__ as where
from worker.store.scripts import installed

print(len([script.program for script in installed().values()]))
print(where)
