"""What is served over HTTP: the intake, Prometheus metrics, and the console (``console/``).

Accepting jobs itself is in ``worker/enqueue.py``. Read ``intake_app.py`` first.
"""
