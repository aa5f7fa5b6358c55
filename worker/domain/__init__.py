"""Words and pure values, no I/O and no clock: badges, orgs, jobs, outcomes, settlements.

How they are stored is in ``store``, how they come out of files in ``files``. Read ``job.py`` first.
"""
