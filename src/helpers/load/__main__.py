"""`python -m helpers.load PLACE`: the load process."""

import sys

import pyarrow as pa

from helpers.load.process import main


class NoPandas:
    """Says that pandas is not installed: pyarrow would import it with its first array, for a second and 50 MB."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """Python asks this for every module that it has not imported yet."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, NoPandas)
pa.array([0])  # pyarrow remembers what it found
sys.meta_path.remove(NoPandas)
main(place=int(sys.argv[1]))
