"""The ledger: every endpoint that a run made or is about to make, on disk before the call that makes it.

After any crash it answers one question: what may still cost money? States move
`planned -> creating -> in_service -> deleting -> deleted`; `failed` is an endpoint that could not be deleted at the first
attempt and may still exist; `waiting` had no capacity or quota yet and will be requested again; `refused` could not even
be planned; `external` is a server that the run did not make and never deletes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

from helpers.price import Price
from helpers.run.remote import upload_in_passing
from helpers.run.whole_files import damage_in_words, lock_of, write_atomically

State = Literal["planned", "refused", "waiting", "creating", "in_service", "failed", "deleting", "deleted", "external"]
READY = ("in_service", "external")
"""States in which an endpoint answers."""
SCHEMA_VERSION = 2
IF_DAMAGED = (
    "restore it from a copy; what it named may still cost money: make cleanup-orphans finds it by its tags. Then move this "
    "run folder away and start a new run"
)
TOKENS = ("prompt_tokens", "output_tokens", "cached_tokens")
EVENTS = ("create_called_at", "confirmed_at", "in_service_at", "failed_at", "delete_called_at", "deleted_at")
"""Times at which something happened to an endpoint."""
FLAT_PRICES = (
    "usd_per_instance_hour",
    "usd_per_1m_input_tokens",
    "usd_per_1m_cached_input_tokens",
    "usd_per_1m_output_tokens",
)
"""Where version 1 kept a price: in the record itself, with `price_source` and `price_as_of`."""


class EndpointRecord(BaseModel):
    """One endpoint of a run. Times are UTC, ISO 8601."""

    model_config = ConfigDict(extra="forbid")

    option: str
    target: str
    state: State = "planned"
    endpoint_name: str
    instance_type: str
    instance_count: int
    region: str | None = None
    local: bool = False
    price: Price | None = None
    """None: unknown."""
    image: str | None = None
    image_digest: str | None = None
    """Of the image that runs, as the platform reports it, `sha256:...`; None where it does not."""
    serving: dict[str, str] = {}
    """Serving settings as the report shows them; never a secret."""
    model: str | None = None
    """The model that it was found to serve; None: the config's."""
    file: str | None = None
    """The Python file of the user's own target, which also deletes."""
    settings: dict[str, JsonValue] = {}
    """The settings that are passed to the file's functions."""
    create_called_at: str | None = None
    attempts: int = 0
    """Create calls since `deploying_since`: more than one where capacity or quota was lacking."""
    deploying_since: str | None = None
    confirmed_at: str | None = None
    """When the platform had accepted the last create call; None: the endpoint may still appear."""
    in_service_at: str | None = None
    failed_at: str | None = None
    delete_called_at: str | None = None
    deleted_at: str | None = None
    failure: str | None = None
    cause: str | None = None
    """Cause of the failure, a `helpers.run.aws_errors.Cause`; None if there is none or it is unknown."""
    billed_input_tokens: int = 0
    billed_cached_tokens: int = 0
    """Of the input tokens, those that were read from a prompt cache."""
    billed_output_tokens: int = 0
    """Tokens sent and received so far, of what is billed per token."""
    race_outcome: str | None = None
    """Why the option left the race (`load.race.Outcome`); null while it is in it, or where there is none."""
    race_because: str | None = None
    """The same in words, with the bounds at that moment."""
    quality_gate: str | None = None
    """What the gate of `quality` found of the option when a race could still be led by it; null elsewhere."""
    earlier_hours: float = 0.0
    """Lifetime of earlier endpoints of this option: a run that is continued makes a new one."""

    @property
    def may_exist(self) -> bool:
        """True if any resource of this endpoint may exist and cost money."""
        return self.state in ("creating", "in_service", "failed", "deleting")

    def billed_hours(self, now: datetime | None = None) -> float | None:
        """Hours from the create call to the deletion (or now), of all endpoints that the option had; None if none."""
        if self.create_called_at is None:
            return self.earlier_hours or None
        end = datetime.fromisoformat(self.deleted_at) if self.deleted_at else (now or datetime.now(UTC))
        return self.earlier_hours + (end - datetime.fromisoformat(self.create_called_at)).total_seconds() / 3600

    @property
    def is_billed_per_token(self) -> bool:
        """True if its price is known and is per token."""
        return self.price is not None and self.price.is_per_token

    def usd_per_option_hour(self) -> float | None:
        """Price of all instances of the option, $/h; None if unknown or per token."""
        return self.price and self.price.usd_per_option_hour(self.instance_count)

    def cost_usd(self) -> float | None:
        """Cost so far, $: hours x price, or tokens x price; None without a price, 0 if it was never created."""
        hours, usd_per_option_hour = self.billed_hours(), self.usd_per_option_hour()
        if hours is None:
            return self.tokens_usd()
        return None if usd_per_option_hour is None else hours * usd_per_option_hour

    def tokens_usd(self) -> float:
        """Cost of the tokens sent and received so far, $; 0 if it is not billed per token."""
        billed = (self.billed_input_tokens, self.billed_output_tokens, self.billed_cached_tokens)
        return self.price.usd_of_tokens(*billed) if self.is_billed_per_token else 0.0

    def why_failed(self) -> str | None:
        """The failure without the option's name at its beginning; None if there is none."""
        return None if self.failure is None else self.failure.removeprefix(f"option {self.option!r}: ")

    def startup_s(self) -> float | None:
        """Seconds from the create call to in service."""
        if self.create_called_at is None or self.in_service_at is None:
            return None
        return (
            datetime.fromisoformat(self.in_service_at) - datetime.fromisoformat(self.create_called_at)
        ).total_seconds()


class JudgeBill(BaseModel):
    """What a judge of answers read and wrote so far, in all sessions of a run, and at which price."""

    model_config = ConfigDict(extra="forbid")

    name: str
    price: Price | None
    """None: unknown."""
    judgements: int = 0
    uncounted: int = 0
    """Of the judgements, those of which its server counted no tokens."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens, those that were read from a prompt cache."""

    def cost_usd(self) -> float | None:
        """Cost so far, $; None if price or tokens are unknown, 0 of a server that is billed by the hour: it runs anyway."""
        return usd_of_judge(self.price, None if self.uncounted else [getattr(self, name) for name in TOKENS])


def usd_of_judge(price: Price | None, tokens: Sequence[int] | None) -> float | None:
    """What a judge costs that has these `TOKENS`; None if they or the price are unknown, 0 where it is billed by the hour."""
    if price is None or (price.is_per_token and tokens is None):
        return None
    return price.usd_of_tokens(*tokens) if price.is_per_token else 0.0


class _Content(BaseModel):
    schema_version: int = SCHEMA_VERSION
    run_id: str
    endpoints: list[EndpointRecord] = []
    judge: JudgeBill | None = None

    def as_text(self) -> str:
        """As the file holds it; without a judge where there is none."""
        return self.model_dump_json(indent=1, exclude=None if self.judge else {"judge"}) + "\n"

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, content: object) -> object:
        if isinstance(content, dict) and content.get("schema_version") == 1:
            return content | {
                "schema_version": SCHEMA_VERSION,
                "endpoints": [_with_nested_price(record) for record in content.get("endpoints", [])],
            }
        return content


def _with_nested_price(flat: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A record of version 1, with its price in one place."""
    record = {key: value for key, value in flat.items() if key not in (*FLAT_PRICES, "price_source", "price_as_of")}
    price = {key: flat[key] for key in FLAT_PRICES if flat.get(key) is not None}
    if not price:
        return record
    name = "per token" if "usd_per_1m_output_tokens" in price else "on demand"
    dated = {"source": flat.get("price_source"), "as_of": flat.get("price_as_of")}
    return record | {"price": {"name": name, **price, **dated}}


class Ledger:
    """The ledger of one run: each change is on disk before the method returns. Safe across threads and processes.

    Where the run has a copy in S3, the change is there too before the method returns, unless S3 fails: that stops nothing.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self._run_id = run_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_of(path)

    def records(self) -> list[EndpointRecord]:
        """All endpoints of the run, in the order in which they were planned."""
        return self._read().endpoints

    def record(self, option: str) -> EndpointRecord | None:
        """The endpoint of an option, or None if it was never planned."""
        return next((record for record in self.records() if record.option == option), None)

    def put(self, record: EndpointRecord) -> EndpointRecord:
        """Add the endpoint of an option, or replace one that is gone; returns the record that the ledger then holds.

        One that may exist is never replaced by another: someone else made it in the meantime, and it must not be forgotten.
        """
        with self._lock:
            known = self.record(record.option)
            if known is not None and known.may_exist and known.endpoint_name != record.endpoint_name:
                return known
            self._write(record)
        upload_in_passing(self.path)
        return record

    def judge(self) -> JudgeBill | None:
        """The bill of the judge of answers; None before it was asked."""
        return self._read().judge

    def update(self, option: str, of_endpoint: str | None = None, **changes: object) -> EndpointRecord:
        """Change fields of an option's endpoint; no change where the option no longer has the endpoint `of_endpoint`."""
        with self._lock:
            record = self.record(option)
            if record is None:
                raise KeyError(option)
            if of_endpoint is not None and record.endpoint_name != of_endpoint:
                return record
            changed = EndpointRecord.model_validate({**record.model_dump(), **changes})
            self._write(changed)
        upload_in_passing(self.path)
        return changed

    def forget(self, options: list[str]) -> None:
        """Drop the records of options for which nothing was ever made, so that they are planned again."""
        with self._lock:
            content = self._read()
            content.endpoints = [record for record in content.endpoints if record.option not in options]
            write_atomically(self.path, content.as_text())
        upload_in_passing(self.path)

    def add_to_judge(self, name: str, price: Price | None, rows: Sequence[dict]) -> None:
        """Add judgements to the judge's bill, as far as its server counted tokens."""
        answered = [row for row in rows if row["status"] == "ok"]
        if not answered:
            return
        with self._lock:
            content = self._read()
            bill = content.judge or JudgeBill(name=name, price=price)
            counted = [row for row in answered if None not in (row["prompt_tokens"], row["output_tokens"])]
            changes = {field: getattr(bill, field) + sum(row[field] or 0 for row in counted) for field in TOKENS}
            changes |= {"judgements": bill.judgements + len(answered), "name": name, "price": price}
            changes |= {"uncounted": bill.uncounted + len(answered) - len(counted)}
            content.judge = bill.model_copy(update=changes)
            write_atomically(self.path, content.as_text())
        upload_in_passing(self.path)

    def remaining(self) -> list[EndpointRecord]:
        """Endpoints that may still exist."""
        return [record for record in self.records() if record.may_exist]

    def cost_usd(self) -> float:
        """Estimated spend so far of everything with a known price, the judge among it. Local endpoints cost nothing."""
        content = self._read()
        judge = content.judge and content.judge.cost_usd()
        return sum((record.cost_usd() or 0.0 for record in content.endpoints if not record.local), judge or 0.0)

    def _write(self, record: EndpointRecord) -> None:
        content = self._read()
        others = [r for r in content.endpoints if r.option != record.option]
        index = next((i for i, r in enumerate(content.endpoints) if r.option == record.option), len(others))
        content.endpoints = [*others[:index], record, *others[index:]]
        write_atomically(self.path, content.as_text())

    def _read(self) -> _Content:
        if not self.path.is_file():
            return _Content(run_id=self._run_id)
        with damage_in_words(self.path, IF_DAMAGED):
            return _Content.model_validate_json(self.path.read_text(encoding="utf-8"))


def merge_ledgers(mine: str, theirs: str) -> str:
    """Merge two ledgers of one run, as JSON: for each option, the record that changed last.

    No endpoint is lost: where both made one for an option, the one that may still exist is kept, under its own name.
    """
    content = _Content.model_validate_json(mine)
    records = {record.option: record for record in content.endpoints}
    other = _Content.model_validate_json(theirs)
    bills = [bill for bill in (content.judge, other.judge) if bill is not None]
    content.judge = max(bills, key=lambda bill: bill.judgements, default=None)
    for record in other.endpoints:
        known = records.get(record.option, record)
        later, earlier = (record, known) if _progress(record) > _progress(known) else (known, record)
        records[record.option] = later
        if earlier.endpoint_name != later.endpoint_name and earlier.may_exist:
            name = f"{earlier.option} ({earlier.endpoint_name})"
            records[name] = earlier.model_copy(update={"option": name})
    content.endpoints = list(records.values())
    return content.as_text()


def _progress(record: EndpointRecord) -> tuple[float, int, int]:
    """When something last happened to an endpoint; at equal times the later state and the larger bill decide."""
    times = [datetime.fromisoformat(at).timestamp() for name in EVENTS if (at := getattr(record, name)) is not None]
    return (max(times, default=0.0), get_args(State).index(record.state), record.billed_output_tokens)


def utc_now() -> str:
    """The UTC time, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
