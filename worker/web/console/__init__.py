"""The console: runs, imports, dead letters, doubt and the gates in a browser (``badges console``).

Thin over ``worker/operate``, as the command line is. Who may come in is decided in ``guard.py``, what a page
shows in a module of its name, how it looks in ``templates`` and ``static``. Read ``app.py`` first.
"""
