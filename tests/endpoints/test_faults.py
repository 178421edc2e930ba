"""What AWS can do wrong, at each moment of an endpoint's life: the message names cause and next step, the others go on, finished
load points are intact, and nothing is left that the ledger does not list.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import thorough
from fault_lab import fault_config, fault_option, lab_in, load_points, records_of, statuses, wait_for

from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord

pytestmark = pytest.mark.faults
pytest_plugins = ["fault_fixtures"]

CAPACITY = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
QUOTA = (
    "The account-level service limit 'ml.g5.xlarge for endpoint usage' is 1 Instances, with current utilization of 1."
)
EXPIRED = {"error_code": "ExpiredTokenException", "message": "The security token included in the request is expired"}
REFUSED = {"error_code": "ValidationException", "message": "Cannot delete now.", "times": 2}
REPEATED = {"repeat_prompts": True, "request_timeout_s": 5}
LONG_ENOUGH = {"kind": "closed_loop", "concurrency": [1, 2], "min_requests": 80, **REPEATED}
"""Load points that last long enough for something to happen in them."""
THROTTLED = {"error_code": "ThrottlingException", "message": "Rate exceeded", "times": 2}

OPTION_FAULTS = {
    # (fault, moment): rule for an option, cause, words of the next step
    ("quota exceeded", "before create"): (
        {"call": "CreateEndpoint", "error_code": "ResourceLimitExceeded", "message": QUOTA},
        "quota exceeded",
        "Service Quotas",
    ),
    ("no capacity", "before create"): (
        {"call": "CreateEndpoint", "error_code": "InsufficientInstanceCapacity", "message": CAPACITY},
        "no capacity",
        "on_no_capacity.retry_for_s",
    ),
    ("no capacity", "creating"): (
        {"call": "CreateEndpoint", "becomes": "Failed", "message": CAPACITY, "delay_s": 0.3},
        "no capacity",
        "on_no_capacity.retry_for_s",
    ),
    ("image not found", "before create"): (
        {"call": "CreateModel", "error_code": "ValidationException", "message": "Requested image x:1 not found."},
        "image not found",
        "check image and version",
    ),
    ("image not found", "creating"): (
        {
            "call": "CreateEndpoint",
            "becomes": "Failed",
            "message": "The image 'x:1' of production variant AllTraffic does not exist.",
        },
        "image not found",
        "check image and version",
    ),
    ("model download failed", "creating"): (
        {
            "call": "CreateEndpoint",
            "becomes": "Failed",
            "message": 'Failed to download model data for container "container_1" from URL: "s3://b/k".',
        },
        "model download failed",
        "check model id or S3 URI",
    ),
    ("start-up timeout", "creating"): (
        {
            "call": "CreateEndpoint",
            "becomes": "Failed",
            "message": "The primary container for production variant AllTraffic did not pass the ping health check.",
            "delay_s": 0.3,
        },
        "not ready in time",
        "a container that prints nothing is the sign of a machine image whose driver does not suit its CUDA: set inference_ami",
    ),
    ("not allowed", "before create"): (
        {"call": "CreateModel", "error_code": "AccessDeniedException", "message": "not authorized to perform"},
        "not allowed",
        "docs/aws.md",
    ),
    ("not allowed", "creating"): (
        {
            "call": "DescribeEndpoint",
            "error_code": "AccessDeniedException",
            "message": "no sagemaker:DescribeEndpoint",
            "times": 1,
        },
        "not allowed",
        "docs/aws.md",
    ),
    ("answer of the create call lost", "before create"): (
        {"call": "CreateEndpoint", "loses_answer": True},
        "other",
        "correct the option",
    ),
}


INVOKE_FAULTS = {
    "throttled": ({"error_code": "ThrottlingException", "status": 429, "times": 2}, "throttled"),
    "424 with the container's message": (
        {"error_code": "ModelError", "message": "CUDA out of memory", "times": 2},
        "http_error",
    ),
    "broken stream": ({"break_after_parts": 2, "times": 2}, "stream_broken"),
    "error in the stream": (
        {"break_after_parts": 2, "error_code": "ModelStreamError", "message": "no", "times": 2},
        "stream_broken",
    ),
}


def act_when(run, is_so, act) -> threading.Thread:
    """A thread that waits for a moment of a run and then acts."""
    thread = threading.Thread(target=lambda: (wait_for(lambda: is_so(run), "the moment to act", 600), act()))
    thread.start()
    return thread


EACH_CALL = (
    "CreateModel",
    "CreateEndpoint",
    "DescribeEndpoint",
    "DeleteEndpoint",
    "DeleteEndpointConfig",
    "DeleteModel",
)
NAMES = {fault: f"fault {number}" for number, fault in enumerate([*OPTION_FAULTS, *INVOKE_FAULTS])}
SIDE_BY_SIDE = ("well", "refused", *(NAMES[fault] for fault in INVOKE_FAULTS))
"""Options that take so long to create that one after the other they would take six times that."""


@dataclass(frozen=True)
class Outcomes:
    """A run in which each option but one meets another fault, and what it left in the account."""

    run: RunFolder
    said: str
    left: set[str]
    records: dict[str, EndpointRecord]

    def points(self, option: str) -> list[str]:
        """Load points of an option that are finished."""
        return points_of(self.run, option)


def points_of(run: RunFolder, option: str) -> list[str]:
    return sorted(name for name in load_points(run) if name.startswith(f"{option.replace(' ', '-')}__"))


def for_option(name: str, rule: dict) -> dict:
    """A fault rule for the resources of one option."""
    return {"name_contains": f"-{name.replace(' ', '-')}-", **rule}


@pytest.fixture(scope="module")
def outcomes(made_once, prepared, account) -> Outcomes:
    """Made once for all of pytest's processes: it takes a minute."""
    folder = made_once("fault-outcomes", lambda folder: meet_faults(folder, prepared, account))
    (run,) = map(RunFolder, (folder / "runs").iterdir())
    found = json.loads((folder / "outcomes.json").read_text(encoding="utf-8"))
    return Outcomes(run, found["said"], set(found["left"]), records_of(run))


def meet_faults(folder: Path, prepared: Path, account: Path) -> None:
    rules = {NAMES[fault]: [rule] for fault, (rule, *_) in OPTION_FAULTS.items()}
    rules |= {
        NAMES[fault]: [{"call": "InvokeEndpoint", "after": 4, **rule}] for fault, (rule, _) in INVOKE_FAULTS.items()
    }
    rules["waits for quota"] = [{"call": "CreateEndpoint", "error_code": "ResourceLimitExceeded", "times": 2}]
    rules["throttled"] = [{"call": call, **THROTTLED} for call in EACH_CALL]
    rules["refused"] = [{"call": call, **REFUSED} for call in EACH_CALL if call.startswith("Delete")]
    rules |= {name: [*rules.get(name, []), {"call": "CreateEndpoint", "delay_s": 4}] for name in SIDE_BY_SIDE}
    sound = ("holds quota", "killed", "vanishes")  # which are loaded first
    types = dict.fromkeys(("holds quota", "waits for quota"), "ml.g5.2xlarge")
    with lab_in(folder, prepared, account) as lab:
        config = fault_config(
            lab.folder,
            options=[fault_option(name, instance_type=types.get(name, "ml.g5.xlarge")) for name in (*sound, *rules)],
            generation={"max_output_tokens": 64},  # not all in the first parts of a stream
            endpoints={"max_parallel_endpoints": len(sound) + len(rules), "max_parallel_loads": 4},
        )
        run = lab.begin(config)
        lab.start(*(for_option(name, rule) for name, of_option in rules.items() for rule in of_option))

        def name_of(option: str) -> str:
            return records_of(run)[option].endpoint_name

        acting = [
            act_when(
                run,
                lambda run: points_of(run, "killed"),
                lambda: os.kill(lab.model_server(name_of("killed")), signal.SIGKILL),
            ),
            act_when(
                run,
                lambda run: points_of(run, "vanishes"),
                lambda: lab.client().delete_endpoint(EndpointName=name_of("vanishes")),
            ),
        ]
        said = lab.finish(config, run)
        for thread in acting:
            thread.join()
        found = {"said": said, "left": sorted(lab.left())}
    (folder / "outcomes.json").write_text(json.dumps(found), encoding="utf-8")


def test_whatever_options_fail_of_nothing_is_left_and_one_that_is_well_is_measured(outcomes):
    assert outcomes.left == set()
    assert {record.state for record in outcomes.records.values()} == {"deleted"}
    assert outcomes.records["well"].failure is None
    assert outcomes.points("well") == ["well__short__c1__r1.parquet", "well__short__c2__r1.parquet"]
    assert set(statuses(outcomes.run, "well")) == {"ok"}


@pytest.mark.parametrize(("fault", "moment"), OPTION_FAULTS)
def test_an_option_that_fails_says_why(outcomes, fault, moment):
    _, cause, next_step = OPTION_FAULTS[fault, moment]
    record = outcomes.records[NAMES[fault, moment]]
    assert record.cause == cause, outcomes.said
    assert next_step in record.failure
    assert record.cost_usd() == 0 or cause not in ("no capacity", "quota exceeded"), "nothing ran"
    assert outcomes.points(NAMES[fault, moment]) == []


def test_quota_that_an_own_endpoint_holds_is_waited_for(outcomes):
    holds, waits = outcomes.records["holds quota"], outcomes.records["waits for quota"]
    assert (waits.attempts, waits.failure) == (3, None)
    assert holds.deleted_at <= waits.create_called_at, "it is asked for again when the other is gone"
    assert len(outcomes.points("holds quota")) == len(outcomes.points("waits for quota")) == 2


def test_a_throttled_control_plane_is_asked_again(outcomes):
    record = outcomes.records["throttled"]
    assert (record.state, record.failure, record.attempts) == ("deleted", None, 1)
    assert len(outcomes.points("throttled")) == 2


def test_deletion_that_is_refused_twice_is_repeated(outcomes):
    record = outcomes.records["refused"]
    assert (record.state, record.failure) == ("deleted", None)
    assert len(outcomes.points("refused")) == 2


@pytest.mark.parametrize("fault", INVOKE_FAULTS)
def test_what_goes_wrong_under_load_is_a_row(outcomes, fault):
    _, status = INVOKE_FAULTS[fault]
    found = statuses(outcomes.run, NAMES[fault].replace(" ", "-"))
    assert found.count(status) == 2, Counter(found)
    assert set(found) == {"ok", status}


def test_options_come_up_side_by_side(outcomes):
    records = [outcomes.records[name] for name in SIDE_BY_SIDE]
    assert len(records) == 6
    assert max(r.create_called_at for r in records) < min(r.in_service_at for r in records)


def test_a_container_that_dies_under_load_ends_its_option_only(outcomes):
    """Its answers up to then are kept; the load point in which it died says nothing of the option."""
    record = outcomes.records["killed"]
    assert record.failure is not None
    assert record.cause == "container crashed"
    assert len(outcomes.points("killed")) == 1


def test_an_endpoint_that_somebody_else_deletes_under_load_ends_its_option_only(outcomes):
    record = outcomes.records["vanishes"]
    assert record.cause == "vanished"
    assert "look who deleted it" in record.failure
    assert len(outcomes.points("vanishes")) == 1


# --- runs of their own --------------------------------------------------------------------------------------------


def test_quota_is_free_again_when_the_endpoint_that_holds_it_fails(lab):
    config = fault_config(lab.folder)
    run = lab.begin(config)
    lab.start(
        {"name_contains": "-a-", "call": "CreateEndpoint", "becomes": "Failed", "message": "no", "delay_s": 3},
        {"name_contains": "-b-", "call": "CreateModel", "delay_s": 1},  # so that a is the first
        {"name_contains": "-b-", "call": "CreateEndpoint", "error_code": "ResourceLimitExceeded", "times": 1},
    )
    lab.finish(config, run)
    records = records_of(run)
    assert records["a"].failure is not None
    assert records["b"].failure is None
    assert len(load_points(run)) == 2
    assert lab.left() == set()


def test_endpoints_that_are_kept(lab):
    """Capacity is asked for again within its time, in the zones of the config; quota is not, as it will not be free again."""
    zones = {"retry_for_s": 60, "pause_s": 0.2, "subnets": [["subnet-one"], ["subnet-two"]]}
    vpc = {"subnets": ["subnet-one"], "security_group_ids": ["sg-1"]}
    config = fault_config(
        lab.folder,
        ("capacity", "quota"),
        option={"on_no_capacity": zones},
        aws={"region": "us-east-1", "execution_role": "arn:aws:iam::123456789012:role/endpoints", "vpc": vpc},
        endpoints={"max_parallel_loads": 2, "keep": True},
    )
    run = lab.begin(config)
    refused = {"call": "CreateEndpoint", "error_code": "ResourceLimitExceeded"}
    lacking = {"call": "CreateEndpoint", "becomes": "Failed", "message": CAPACITY, "times": 1}
    lab.start(for_option("quota", refused), for_option("capacity", lacking))
    lab.finish(config, run)
    records = records_of(run)
    assert records["quota"].cause == "quota exceeded"
    kept = records["capacity"]
    assert (kept.state, kept.attempts, kept.failure) == ("in_service", 2, None)
    assert lab.left() == {kept.endpoint_name}, "of the first attempt, and of the other option, nothing is left"
    assert lab.model(kept.endpoint_name)["VpcConfig"]["Subnets"] == ["subnet-two"]
    assert len(load_points(run)) == 2
    assert "deleted" in lab.helpers("cleanup", str(run.path))
    assert lab.left() == set()


def test_what_could_not_be_deleted_is_left_to_the_watchdog_and_what_may_not_be_is_listed_with_the_commands(lab):
    """Three attempts fail: when the load is done, when all load is done, and when that has failed."""
    config = fault_config(lab.folder, ("later", "never"))
    run = lab.begin(config)
    lab.start(
        for_option("later", {"call": "DeleteEndpoint", **EXPIRED, "times": 3}),
        for_option(
            "never", {"call": "DeleteEndpoint", "error_code": "AccessDeniedException", "message": "no permission"}
        ),
    )
    said = lab.finish(config, run)
    assert "log in again" in said
    assert "may still cost money" in said and "docs/aws.md" in said
    for record in records_of(run).values():
        assert f"aws sagemaker delete-endpoint --region us-east-1 --endpoint-name {record.endpoint_name}" in said
    wait_for(lambda: records_of(run)["later"].state == "deleted", "what the watchdog deleted")
    never = records_of(run)["never"]
    assert never.may_exist and lab.left() == {never.endpoint_name}
    assert len(load_points(run)) == 4
    lab.from_now_on()
    lab.helpers("cleanup", str(run.path))
    assert lab.left() == set()


def test_a_crashing_container_is_reported_with_its_last_lines(lab):
    crashing = {"image": "openvino-genai", "environment": {"ENGINE_MODEL": "synthetic:2m", "ENGINE_THREADS": "many"}}
    config = fault_config(lab.folder, ("b",), option={"container": crashing})
    run = lab.begin(config)
    lab.start()
    said = lab.finish(config, run)
    assert records_of(run)["b"].cause == "container crashed"
    assert "Last lines of the container:" in said and "ENGINE_THREADS" in said
    assert "correct the container's settings" in said
    assert lab.left() == set()


EXPIRIES = {
    "before create": {"call": "CreateModel", **EXPIRED},
    "creating": {"call": "DescribeEndpoint", "after": 1, **EXPIRED},
    "in service": {"call": "DescribeEndpoint", **EXPIRED},
    "under load": {"call": "InvokeEndpoint", **EXPIRED, "status": 403},
    "deleting": {"call": "DeleteEndpoint", **EXPIRED},
}
NOTHING_CAN_BE_DELETED = [
    {"call": call, **EXPIRED} for call in ("DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel")
]


SEEN = {
    "in service": lambda run: "in_service" in [record.state for record in records_of(run).values()],
    "under load": load_points,
}
"""Moments that are waited for, as no count of calls tells them."""
GOES_ON = ("before create", "under load", "deleting")
"""Moments after which the run is continued, with none, one and both load points: after the others, too, there is none."""


@pytest.mark.parametrize("moment", ["before create", "under load", *thorough("creating", "in service", "deleting")])
def test_expired_credentials_stop_the_run_and_say_what_to_delete(lab, moment):
    config = fault_config(lab.folder, ("a",), load=LONG_ENOUGH)
    run = lab.begin(config)
    faults = [EXPIRIES[moment], *NOTHING_CAN_BE_DELETED]
    lab.start(*([] if moment in SEEN else faults))
    if moment in SEEN:
        act_when(run, SEEN[moment], lambda: lab.from_now_on(*faults))
    said = lab.finish(config, run)
    intact = load_points(run)
    assert len(intact) in {"in service": (0, 1), "under load": (1,), "deleting": (2,)}.get(moment, (0,))
    assert "log in again" in said
    name = records_of(run)["a"].endpoint_name
    assert f"--endpoint-name {name}" in said
    assert lab.left() <= {name}, "the ledger lists what is left"
    assert records_of(run)["a"].may_exist
    lab.from_now_on()
    lab.helpers("cleanup", str(run.path))
    assert lab.left() == set()
    if moment in GOES_ON:
        lab.finish(config, run)
        assert len(load_points(run)) == 2, "it goes on where it stopped"
        assert load_points(run).items() >= intact.items()
        assert lab.left() == set()


def test_the_budget_stops_the_run_in_the_middle_of_a_load_point(lab):
    long = {"kind": "closed_loop", "concurrency": [1, 2], "min_requests": 100_000, "max_duration_s": 100, **REPEATED}
    price = {"usd_per_hour": 3600.0, "as_of": "2026-11-01"}
    config = fault_config(lab.folder, ("a",), option={"price": price}, load=long, budget_usd=8)
    run = lab.begin(config)
    lab.start()
    said = lab.finish(config, run)
    assert "BudgetExceeded" in said and "budget_usd 8" in said
    assert records_of(run)["a"].cost_usd() < 60, "a dollar a second: it stopped soon"
    assert lab.left() == set()
