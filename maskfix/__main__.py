"""`python -m maskfix`."""

from maskfix.cli.app import main

main()
