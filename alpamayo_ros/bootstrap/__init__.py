"""Turns a machine with Python and the package registries into one that runs this package.

Runs from the source tree before anything is installed, so it uses the standard library alone.
"""
