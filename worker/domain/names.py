"""Names with a meaning of their own; apart from ``org.py``, so that they cost no Pydantic."""

DEFAULT_ORG = "default"
LAST_RUN = "last"  # stands for the newest run: none may be called so
