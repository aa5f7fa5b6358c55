"""Bytes become rows: CSV, Excel workbooks, JSON Lines, JSON arrays, compressed or not.

Knows neither Redis nor runs; what a row must hold is in ``domain/parsing.py``. Read ``reader.py`` first.
"""
