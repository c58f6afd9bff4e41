"""From the words of a command line to Coview's functions; each verb is a few lines of verbs.py."""

from coview.cli.main import main

__all__ = ["main"]
