"""`python -m omniwsi` is `omniwsi`."""

from omniwsi.cli import main

main()
