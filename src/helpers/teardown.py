"""Deletes what a run created, from its ledger alone: no config, no memory of the process that created it."""

from __future__ import annotations

from contextlib import suppress

from helpers.errors import TeardownError
from helpers.ledger import EndpointRecord, Ledger, utc_now
from helpers.run_folder import RunFolder
from helpers.sessions import end_local_sagemaker, session_of_record
from helpers.targets.sagemaker import delete_commands, delete_resources

WAIT_S = 1800.0  # an endpoint that is being created can only be deleted once it is up or has failed


def delete_endpoint(record: EndpointRecord, run: RunFolder, ledger: Ledger, wait_s: float = WAIT_S) -> EndpointRecord:
    """Delete one endpoint of the ledger with its endpoint config and model. Raises TeardownError."""
    with suppress(OSError):  # a full disk must not keep an endpoint alive
        ledger.update(record.option, state="deleting", delete_called_at=record.delete_called_at or utc_now())
    session = session_of_record(record, run)
    if session is not None:
        delete_resources(record, session, wait_s)
    return ledger.update(record.option, state="deleted", deleted_at=utc_now())


def delete_remaining(run: RunFolder, wait_s: float = WAIT_S) -> list[EndpointRecord]:
    """Delete everything that the ledger lists as possibly there; returns what was deleted.

    Goes on after a failure, and ends the local SageMaker when nothing is left in it. Raises TeardownError at the end,
    with the commands that delete what is left.
    """
    ledger = Ledger(run.ledger_file, run.run_id)
    deleted, failures, commands = [], [], []
    for record in ledger.remaining():
        try:
            delete_endpoint(record, run, ledger, wait_s)
            deleted.append(record)
        except Exception as error:  # noqa: BLE001 - whatever went wrong with one, the others must still be deleted
            failures.append(str(error))
            commands += delete_commands(record)
    if not any(record.local for record in ledger.remaining()):
        end_local_sagemaker(run)
    if failures:
        raise TeardownError("\n".join([*failures, "Next: delete them by hand:", *commands]))
    return deleted
