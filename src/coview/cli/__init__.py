"""Argument text to the house's functions: one file and a few lines for each verb."""

from coview.cli.main import main

__all__ = ["main"]
