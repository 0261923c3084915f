"""The command line."""

from pointland.cli.app import app, main

__all__ = ["app", "main"]
