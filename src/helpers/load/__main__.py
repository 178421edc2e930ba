"""`python -m helpers.load`: the load process."""

from helpers.load.process import main

main()
