"""``python -m fairstem.cli`` does what ``fairstem`` does."""

from fairstem.cli import main

main()
