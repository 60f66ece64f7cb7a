"""The `maskfix` command: one typed function a sub-command; errors are one line and exit code 2."""

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the `maskfix` command.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        # Ctrl-C comes before this is through, too.
        from maskfix.cli.app import main as run_app
    except KeyboardInterrupt:
        sys.exit(130)
    run_app()
