"""All that knows the vendor's API: the call, the credentials, the codes, what an answer means.

What is done about an outcome is in ``domain/settlement.py``. Read ``verdict.py`` first.
"""
