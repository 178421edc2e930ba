"""Every error that a user can meet, in one tree.

    ServingVerdictError
    ├── ConfigError            the YAML config: unknown key, bad value, missing variable
    ├── ParameterError         a notebook parameter that does not exist or has the wrong type
    ├── RunFolderError         a run folder that is missing, incomplete, in use, or made from another config
    │   ├── NoSuchRun          no run by the given name
    │   └── StorageError       a file or folder that the operating system refuses: full disk, no permission
    ├── ResultFileError        results of another tool that are not what the config says
    ├── PromptError            a prompt source or bin that cannot provide what the config asks for
    ├── DeployError            an option that could not be deployed
    │   ├── CredentialsError   AWS credentials that are missing or have expired: everything stops
    │   └── NoOptionLeft       every option has failed, so there is nothing to measure
    ├── TeardownError          resources that could not be deleted: they may still cost money
    ├── LoadError              a load process that died, or a load point that cannot be run
    │   └── BudgetExceeded     the estimated spend reached budget_usd
    ├── AnalysisError          request records from which nothing can be computed
    ├── NotebookFailed         a notebook of the series stopped with an error
    ├── JobFailed              a job that ran the series was stopped, or ended without saying how
    └── Stopped                a person stopped a notebook: not an error

A message names the file and key (or the resource), the bad value, what was expected and the next step. A notebook shows the
message; the traceback goes to the run's log.
"""

from __future__ import annotations

import re
import reprlib
import traceback
from contextlib import suppress
from pathlib import Path

MOST_CHARACTERS_OF_A_VALUE = 120
MOST_CHARACTERS_OF_A_LINE = 2000
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple = 3, 8, 8, 8
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 100, 60, 100
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_log_file: Path | None = None


def cut(text: str, most: int = MOST_CHARACTERS_OF_A_VALUE) -> str:
    """Text of at most about `most` characters: longer text loses its middle, and its length is given."""
    if len(text) <= most:
        return text
    return f"{text[: most * 2 // 3]}... ({len(text):,} characters) ...{text[-(most // 3) :]}"


def shown(value: object) -> str:
    """A value as a message shows it, of limited size."""
    return cut(repr(value) if isinstance(value, str) else _SHORT.repr(value))


def log_errors_to(path: Path) -> None:
    """From now on, write the tracebacks of errors that a notebook shows to this file."""
    global _log_file
    _log_file = path


class ServingVerdictError(Exception):
    """Base of all errors of this package. Lines of messages are limited in length, whatever they quote."""

    def __init__(self, message: str = "") -> None:
        super().__init__("\n".join(cut(line, MOST_CHARACTERS_OF_A_LINE) for line in message.split("\n")))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of the traceback: the message and its notes."""
        words = "\n".join([f"{type(self).__name__}: {self}", *getattr(self, "__notes__", [])])
        if _log_file is not None:
            with suppress(OSError), _log_file.open("a", encoding="utf-8", errors="replace") as log:
                log.write("".join(traceback.format_exception(self)) + "\n")
                words += f"\n(Where in the program: {_log_file})"
        return _CONTROLS.sub("\ufffd", words).split("\n")


class ConfigError(ServingVerdictError):
    """One or more errors in a config file, one line each: `file:line: key: what is wrong`."""


class ParameterError(ServingVerdictError):
    """A notebook parameter that the notebook does not take, or a value of the wrong type."""


class RunFolderError(ServingVerdictError):
    """A run folder that is missing, in use, without a file that this step reads, or made from another config."""


class NoSuchRun(RunFolderError):
    """What was given names no run: neither a folder, nor a run id, nor a run in S3."""


class StorageError(RunFolderError, OSError):
    """A file or folder that the operating system refuses; also an OSError, for callers that can continue without the file."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class ResultFileError(ServingVerdictError):
    """A result file of another tool that is not what the config says, or that cannot be used."""


class PromptError(ServingVerdictError):
    """A prompt source, template, tokenizer or bin that cannot provide the requested prompts."""


class DeployError(ServingVerdictError):
    """An option that could not be deployed; has the cause (a `failures.Cause`) if it is known."""

    def __init__(self, message: str, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class CredentialsError(DeployError):
    """AWS credentials are missing or have expired: nothing can be made, looked at or deleted until they are renewed."""


class NoOptionLeft(DeployError):
    """Every option has failed: none could be deployed, or none answers. The message lists each failure."""


class TeardownError(ServingVerdictError):
    """Resources that could not be deleted. The message ends with the commands that delete them."""


class LoadError(ServingVerdictError):
    """A load process that died, or a load point that cannot be run as configured."""


class BudgetExceeded(LoadError):
    """The estimated spend reached `budget_usd`: endpoints are deleted, results are kept."""


class AnalysisError(ServingVerdictError):
    """Request records that are missing or from which nothing can be computed."""


class NotebookFailed(ServingVerdictError):
    """A notebook stopped with an error of class `error_name`; the message names the saved copy, which shows where."""

    def __init__(self, message: str, error_name: str = "") -> None:
        super().__init__(message)
        self.error_name = error_name


class JobFailed(ServingVerdictError):
    """A job that ran the series was stopped, or ended without saying how."""


class Stopped(ServingVerdictError):
    """A person stopped a notebook; the message says what is kept and how to continue."""
