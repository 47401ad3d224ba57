"""`python -m reverse_etl` is `retl`."""

from reverse_etl.cli import main

main()
