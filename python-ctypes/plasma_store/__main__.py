"""`python -m plasma_store` is the command `plasma_store`."""

from .daemon import main

main()
