"""The Redis there is: the configured one, or the program's own embedded server.

What lies in it is in ``store``. Read ``connection.py`` first.
"""
