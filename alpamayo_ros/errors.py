"""The errors that a person is meant to read: the command line prints them without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Wrong use or a missing thing; the message names it and the remedy. Exit code 2."""


class BagError(UserError):
    """A recording that cannot be read, or lacks a topic."""


class ModelError(UserError):
    """A model that cannot be had as asked: its manifest, files, runtime or shapes."""
