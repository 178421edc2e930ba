"""What the engine can refuse or fail at.

* `SettingError`: an environment variable; the process ends.
* `BadRequest`: a request body; answered with 400.
* `GenerationFailed`: an accepted request; answered with 500, or with a broken stream.
"""


class SettingError(Exception):
    """An environment variable has a value that the engine cannot use."""


class BadRequest(Exception):
    """The request body asks for something that the engine cannot do; answered with 400."""


class GenerationFailed(Exception):
    """The engine gave up on a request that it had accepted; answered with 500, or with a broken stream."""
