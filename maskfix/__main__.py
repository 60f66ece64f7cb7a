"""`python -m maskfix`."""

from maskfix.cli import main

main()
