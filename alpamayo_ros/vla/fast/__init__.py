"""The `fast` runtime: the numbers of `eager` with less work. runtime.py puts its parts together."""
