"""The `maskfix` command: one typed function a sub-command; errors are one line and exit code 2."""

from maskfix.cli.app import main

__all__ = ["main"]
