"""The helper package behind the five notebooks: all logic lives here, none in the notebooks."""

__version__ = "0.1.0"
