"""The engine's errors."""


class SettingError(Exception):
    """An environment variable has a value that the engine cannot use; the process exits."""


class BadRequest(Exception):
    """The request body is invalid or needs something unsupported; answered with 400."""


class GenerationFailed(Exception):
    """The engine gave up on an accepted request; answered with 500, or with a broken stream."""
