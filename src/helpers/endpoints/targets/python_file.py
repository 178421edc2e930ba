"""A user-defined target: one Python file that creates, looks at and deletes what serves an option.

The file defines `create`, `status`, `address` and `delete`; docs/own_target.md says what each is given and gives back.
Any error that it raises becomes a DeployError or a TeardownError that says where.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from pydantic import JsonValue, ValidationError

from helpers.config.api_url import parse_url
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import PythonOption
from helpers.config.secret_names import SECRET_NAME
from helpers.config.yaml import expanded
from helpers.endpoints.pricing import price_of
from helpers.endpoints.targets.base import EndpointStatus
from helpers.endpoints.targets.certificates import certificates_file
from helpers.endpoints.targets.sagemaker_resources import resource_name
from helpers.errors import DeployError, TeardownError, shown
from helpers.load.address import Address
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, utc_now

FUNCTIONS = ("create", "status", "address", "delete")
STATES = ("creating", "in_service", "gone")
FAILED = "failed: "
ADDRESS_KEYS = ("url", "bearer_token", "served_model", "ca_file", "framing", "sigv4", "request_id_header")
NAME_OF_A_SECRET = re.compile(r"arn:aws[a-z-]*:(secretsmanager|ssm):")
"""ARNs of Secrets Manager and of the Parameter Store: they name a secret, and are not secret themselves."""


class PythonFileTarget:
    """Deploys one option by the functions of its file, which share nothing but the endpoint's name and the settings."""

    def __init__(self, option: PythonOption, config: BenchmarkConfig, run: RunFolder) -> None:
        self._option = option
        self._region = config.aws.region
        self._run = run
        self._loaded: ModuleType | None = None

    def plan(self) -> EndpointRecord:
        """The ledger entry, which keeps the file and the settings for `delete`; runs nothing but the file's top level.

        Raises DeployError for a file that lacks a function, and for settings that look like secrets.
        """
        self._refuse_secrets()
        about = self._run.about()
        file = Path(about["config_dir"], expanded(self._option.file)).resolve()
        faults = faults_of_file(self._module(file))
        if faults:
            raise DeployError(
                f"option {self._option.name!r}: {file}: {'; '.join(faults)}. Expected the functions "
                f"{', '.join(FUNCTIONS)}, each called with (name, settings). Next: see docs/own_target.md"
            )
        return EndpointRecord(
            option=self._option.name,
            target="python",
            endpoint_name=resource_name(self._run.run_id, self._option.name),
            instance_type=self._option.instance_type,
            instance_count=self._option.instance_count,
            price=price_of(self._option, self._region, about["machine"]["vcpus"]),
            file=str(file),
            settings=self._option.settings,
        )

    def create(self, record: EndpointRecord) -> EndpointRecord:
        """The file's `create`. Raises DeployError."""
        self._call("create", record)
        return record

    def status(self, record: EndpointRecord) -> EndpointStatus:
        """The file's `status`. Raises DeployError, also for an answer that is not a state."""
        answer = self._call("status", record)
        if answer in STATES:
            return EndpointStatus(answer, utc_now())
        if isinstance(answer, str) and answer.startswith(FAILED):
            reason = f"{answer.removeprefix(FAILED)}. Next: correct {record.file} or its settings, then run it again"
            return EndpointStatus("failed", utc_now(), reason)
        raise self._bad_answer(
            "status", record, f"returned {answer!r}", f"one of {', '.join(STATES)}, '{FAILED}<reason>'"
        )

    def address(self, record: EndpointRecord) -> Address:
        """The file's `address`, checked. Raises DeployError, which never holds the bearer token."""
        answer = self._call("address", record)
        expected = f"a dict with `url` (http or https) and, where needed, {', '.join(ADDRESS_KEYS[1:])}"
        if not isinstance(answer, dict):
            raise self._bad_answer("address", record, f"returned a {type(answer).__name__}", expected)
        if unknown := [key for key in answer if key not in ADDRESS_KEYS]:
            raise self._bad_answer("address", record, f"returned the unknown key {unknown[0]!r}", expected)
        url = answer.get("url")
        try:
            parse_url(url if isinstance(url, str) else "")
        except ValueError as error:
            said = shown(re.sub("//[^/@]*@", "//", url) if isinstance(url, str) else url)
            raise self._bad_answer("address", record, f"returned url {said}: {error}", expected) from None
        fields = {"framing": "plain", "request_id_header": "X-Request-Id", **answer, "api": self._option.api}
        if isinstance(fields.get("ca_file"), str):
            where = f"option {self._option.name!r}: {record.file}: address({record.endpoint_name!r})"
            fields["ca_file"] = certificates_file(fields["ca_file"], Path(record.file).parent, where)
        try:
            return Address.model_validate(fields)
        except ValidationError as error:
            fault = error.errors()[0]  # without pydantic's own text, which shows the value: it may be the token
            where = ".".join(str(step) for step in fault["loc"])
            raise self._bad_answer("address", record, f"{where}: {fault['msg']}", expected) from None

    # --- the file -------------------------------------------------------------------------------------------------

    def _module(self, file: Path) -> ModuleType:
        if self._loaded is None:
            try:
                self._loaded = load_file(file)
            except Exception as error:  # the file is the user's: it may raise anything
                raise DeployError(
                    f"option {self._option.name!r}: {file}: {what_was_raised(error, file)}. Expected a Python file that "
                    f"defines {', '.join(FUNCTIONS)}. Next: correct it, see docs/own_target.md"
                ) from error
        return self._loaded

    def _call(self, function: str, record: EndpointRecord) -> object:
        file = Path(record.file)
        module = self._module(file)
        try:
            return call_function(module, function, record)
        except Exception as error:  # the file is the user's: it may raise anything
            raise DeployError(
                f"option {self._option.name!r}: {file}: {function}({record.endpoint_name!r}) raised "
                f"{what_was_raised(error, file)}. Next: correct the file or its settings, then run it again"
            ) from error

    def _bad_answer(self, function: str, record: EndpointRecord, what: str, expected: str) -> DeployError:
        return DeployError(
            f"option {self._option.name!r}: {record.file}: {function}({record.endpoint_name!r}) {what}. "
            f"Expected {expected}. Next: see docs/own_target.md"
        )

    def _refuse_secrets(self) -> None:
        for path in paths_of_secrets(self._option.settings, "settings"):
            raise DeployError(
                f"option {self._option.name!r}: {path}: looks like a secret, and settings are written to files of the run. "
                f"Expected none. Next: let {self._option.file} read it, from Secrets Manager (give its ARN here) or from "
                "its own environment"
            )


# --- deleting: needs only the ledger entry, so that it works without the config --------------------------------------


def delete_python(record: EndpointRecord) -> None:
    """Call the file's `delete`; returns when it does. Raises TeardownError, which ends with a command to try again."""
    file = Path(record.file)
    try:
        call_function(load_file(file), "delete", record)
    except Exception as error:
        raise TeardownError(
            f"option {record.option!r}: {file}: delete({record.endpoint_name!r}) raised {what_was_raised(error, file)}: "
            "what create made may still cost money"
        ) from error


def python_delete_command(record: EndpointRecord) -> str:
    """The shell command by which a person calls the file's `delete`."""
    code = f"import runpy; runpy.run_path({record.file!r})['delete']({record.endpoint_name!r}, {record.settings!r})"
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def call_function(module: ModuleType, function: str, record: EndpointRecord) -> object:
    """Call one of the file's functions with the endpoint's name and a copy of the settings."""
    return getattr(module, function)(record.endpoint_name, copy.deepcopy(record.settings))


def load_file(file: Path) -> ModuleType:
    """The file as a module, run again and without a cache next to it. Raises what the file raises."""
    module = ModuleType(f"own_target_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(file.read_bytes(), file, "exec", dont_inherit=True), module.__dict__)
    return module


def faults_of_file(module: ModuleType) -> list[str]:
    """What a target's file lacks, in words; empty for one that is complete."""
    return [fault for name in FUNCTIONS if (fault := _fault_of(name, getattr(module, name, None)))]


def _fault_of(name: str, function: Callable[..., object] | None) -> str | None:
    if not callable(function):
        return f"defines no function {name}"
    if inspect.iscoroutinefunction(function):
        return f"{name} is async"
    try:
        inspect.signature(function).bind("name", {})
    except TypeError as error:
        return f"{name}{inspect.signature(function)} cannot be called so: {error}"
    return None


def what_was_raised(error: Exception, file: Path) -> str:
    """An error in words, with the last line of the file that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")


def paths_of_secrets(settings: JsonValue, path: str) -> Iterator[str]:
    """Key paths below `path` whose names are those of secrets and whose values may be some."""
    if isinstance(settings, list):
        for i, value in enumerate(settings):
            yield from paths_of_secrets(value, f"{path}[{i}]")
    elif isinstance(settings, dict):
        for key, value in settings.items():
            harmless = value is None or isinstance(value, bool) or NAME_OF_A_SECRET.match(str(value))
            if SECRET_NAME.search(key) and not harmless:
                yield f"{path}.{key}"
            else:
                yield from paths_of_secrets(value, f"{path}.{key}")
