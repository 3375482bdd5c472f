"""``python -m arkway`` is the ``arkway`` command."""

from arkway.cli import main

main()
