"""Deletes what a run created, from its ledger alone: no config, no memory of the process that created it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from helpers.endpoints.targets.python_file import delete_python, python_delete_command
from helpers.endpoints.targets.sagemaker_resources import delete_commands, delete_resources
from helpers.errors import ServingVerdictError, Stopped, TeardownError
from helpers.notebook_text import show_as_text
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger, utc_now
from helpers.run.sessions import end_local_sagemaker, session_of_record

WAIT_S = 1800.0  # an endpoint that is being created can only be deleted once it is up or has failed


def delete_endpoint(record: EndpointRecord, run: RunFolder, ledger: Ledger, wait_s: float = WAIT_S) -> EndpointRecord:
    """Delete one endpoint of the ledger with its endpoint config and model. Raises TeardownError."""
    with suppress(OSError):  # a full disk must not keep an endpoint alive
        called_at = record.delete_called_at or utc_now()
        ledger.update(record.option, record.endpoint_name, state="deleting", delete_called_at=called_at)
    if record.target == "python":
        delete_python(record)
    elif (session := session_of_record(record, run)) is not None:
        try:
            delete_resources(record, session, wait_s)
        except TeardownError:
            if session_of_record(record, run) is not None:  # else the local SageMaker ended in the meantime
                raise
    return ledger.update(record.option, record.endpoint_name, state="deleted", deleted_at=utc_now())


def delete_remaining(
    run: RunFolder, wait_s: float = WAIT_S, only: Collection[str] | None = None
) -> list[EndpointRecord]:
    """Delete everything that the ledger lists as possibly there, or of it `only` endpoints of these names; returns what was
    deleted.

    All at once, as one that is still being created takes long. Continues after a failure, and ends the local SageMaker when
    nothing is left in it. Raises TeardownError at the end, with the commands that delete the rest.
    """
    ledger = Ledger(run.ledger_file, run.run_id)
    records = [record for record in ledger.remaining() if only is None or record.endpoint_name in only]
    deleted, failures, commands = [], [], []
    with ThreadPoolExecutor(max(1, len(records)), thread_name_prefix="delete") as pool:
        deletions = [pool.submit(delete_endpoint, record, run, ledger, wait_s) for record in records]
    for record, deletion in zip(records, deletions, strict=True):
        error = deletion.exception()
        if error is None:
            deleted.append(record)
        else:
            failures.append(str(error))
            is_python = record.target == "python"
            commands += [python_delete_command(record)] if is_python else delete_commands(record)
    if not any(record.local for record in ledger.remaining()):
        try:
            end_local_sagemaker(run)
        except ServingVerdictError as error:
            failures.append(str(error))
    if failures:
        again = f"make cleanup RUN={run.path}"
        raise TeardownError("\n".join([*failures, f"Next: {again}; or delete them by hand:", *commands]))
    return deleted


@contextmanager
def delete_after_failure(run: RunFolder) -> Iterator[None]:
    """If an error or interrupt leaves this block, everything that the ledger lists is deleted first.

    What could not be deleted is added to the error as a note, and stays in the ledger for the next attempt. An interrupt
    becomes Stopped.
    """
    try:
        yield
    except BaseException as error:
        left = _delete_noting(run, error)
        if isinstance(error, KeyboardInterrupt):
            raise _stopped(run, left) from None
        raise


def _delete_noting(run: RunFolder, error: BaseException) -> str:
    """Delete everything; what could not be deleted is noted with the error, and returned in words."""
    if isinstance(error, KeyboardInterrupt) and (names := _names_of_remaining(run)):
        print(f"Stopping: deleting {names} ...", flush=True)  # noqa: T201 (a person who pressed Stop waits for this)
    try:
        delete_remaining(run)
    except TeardownError as left:
        error.add_note(f"{left}")
        return f"{left}"
    return ""


def _names_of_remaining(run: RunFolder) -> str:
    return ", ".join(record.endpoint_name for record in Ledger(run.ledger_file, run.run_id).remaining())


def _stopped(run: RunFolder, left: str) -> Stopped:
    """The message at the end of an interrupt; IPython prints it as plain text, because it is not an error."""
    show_as_text(Stopped)
    state = left or "Its endpoints are deleted."
    return Stopped(
        f"Stopped. Load points that were finished are kept in {run.path}. {state}\n"
        f"Next: run this notebook again with this run_dir, or make report RUN={run.path}, to continue with what is missing"
    )
