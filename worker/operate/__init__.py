"""What people do about jobs: import and mend files, read results, replay dead letters, diagnose.

The commands that call it are in ``cli``, its HTTP side in ``web``. Read ``runs.py`` first.
"""
