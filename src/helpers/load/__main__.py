"""`python -m helpers.load PLACE`: the load process."""

import sys

from helpers.load.process import main

main(place=int(sys.argv[1]))
