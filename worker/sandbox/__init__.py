"""A vendor to try things with: the real endpoint's behaviour and faults, on this machine.

The client that calls the vendor is in ``vendor``. Read ``vendor.py`` first.
"""
