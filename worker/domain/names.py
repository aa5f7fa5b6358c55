"""Names with a meaning of their own; apart from ``org.py``, so that they cost no Pydantic."""

DEFAULT_ORG = "default"
