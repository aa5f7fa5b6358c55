"""What is served over HTTP: the intake, and Prometheus metrics.

Accepting jobs itself is in ``worker/enqueue.py``. Read ``intake_app.py`` first.
"""
