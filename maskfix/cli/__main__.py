"""`python -m maskfix.cli`."""

from maskfix.cli.app import main

main()
