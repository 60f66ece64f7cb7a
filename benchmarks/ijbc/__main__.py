"""The command `python -m benchmarks.ijbc`."""

from __future__ import annotations

import typer

from benchmarks.ijbc.make import make
from benchmarks.ijbc.run import figures_command, run_command

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="IJB-B and IJB-C 1:1.")
app.command("make")(make)
app.command("run")(run_command)
app.command("figures")(figures_command)

if __name__ == "__main__":
    app()
