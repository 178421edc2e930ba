"""What AWS can do wrong, at each moment of an endpoint's life: the message names cause and next step, the others go on, finished
load points are intact, and nothing is left that the ledger does not list.
"""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from fault_lab import fault_config, load_points, records_of, statuses, wait_for

pytestmark = pytest.mark.faults
pytest_plugins = ["fault_fixtures"]

CAPACITY = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
QUOTA = (
    "The account-level service limit 'ml.g5.xlarge for endpoint usage' is 1 Instances, with current utilization of 1."
)
EXPIRED = {"error_code": "ExpiredTokenException", "message": "The security token included in the request is expired"}
REPEATED = {"repeat_prompts": True, "request_timeout_s": 5}
LONG_ENOUGH = {"kind": "closed_loop", "concurrency": [1, 2], "min_requests": 80, **REPEATED}
"""Load points that last long enough for something to happen in them."""
THROTTLED = {"error_code": "ThrottlingException", "message": "Rate exceeded", "times": 2}

OPTION_FAULTS = {
    # (fault, moment): rule for option b, cause, words of the next step
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


@pytest.mark.parametrize(("fault", "moment"), OPTION_FAULTS)
def test_an_option_that_fails_says_why_and_the_other_is_measured(lab, fault, moment):
    rule, cause, next_step = OPTION_FAULTS[fault, moment]
    config = fault_config(lab.folder)
    run = lab.begin(config)
    lab.start({"name_contains": "-b-", **rule})
    said = lab.finish(config, run)
    records = records_of(run)
    assert records["b"].cause == cause, said
    assert next_step in records["b"].failure
    assert records["b"].cost_usd() == 0 or cause not in ("no capacity", "quota exceeded"), "nothing ran"
    assert records["a"].failure is None
    assert sorted(load_points(run)) == ["a__short__c1__r1.parquet", "a__short__c2__r1.parquet"]
    assert {record.state for record in records.values()} == {"deleted"}
    assert lab.left() == set()


def test_quota_that_an_own_endpoint_holds_is_waited_for(lab):
    config = fault_config(lab.folder)
    run = lab.begin(config)
    lab.start({"name_contains": "-b-", "call": "CreateEndpoint", "error_code": "ResourceLimitExceeded", "times": 2})
    lab.finish(config, run)
    records = records_of(run)
    assert (records["b"].attempts, records["b"].failure) == (3, None)
    assert records["a"].deleted_at <= records["b"].create_called_at, "b is asked for again when a is gone"
    assert len(load_points(run)) == 4
    assert lab.left() == set()


def test_quota_is_free_again_when_the_endpoint_that_holds_it_fails(lab):
    config = fault_config(lab.folder)
    run = lab.begin(config)
    lab.start(
        {"name_contains": "-a-", "call": "CreateEndpoint", "becomes": "Failed", "message": "no", "delay_s": 1},
        {"name_contains": "-b-", "call": "CreateEndpoint", "error_code": "ResourceLimitExceeded", "times": 1},
    )
    lab.finish(config, run)
    records = records_of(run)
    assert records["a"].failure is not None
    assert records["b"].failure is None
    assert len(load_points(run)) == 2
    assert lab.left() == set()


def test_quota_is_not_waited_for_where_endpoints_are_kept(lab):
    config = fault_config(lab.folder, endpoints={"max_parallel_loads": 1, "keep": True})
    run = lab.begin(config)
    lab.start({"name_contains": "-b-", "call": "CreateEndpoint", "error_code": "ResourceLimitExceeded"})
    lab.finish(config, run)
    records = records_of(run)
    assert records["b"].cause == "quota exceeded"
    assert lab.left() == {records["a"].endpoint_name}, "a is kept, of b nothing is left"
    lab.helpers("cleanup", str(run.path))
    assert lab.left() == set()


def test_what_could_not_be_deleted_is_left_to_the_watchdog(lab):
    """Three attempts fail: when the load is done, when all load is done, and when that has failed."""
    config = fault_config(lab.folder, ("a",))
    run = lab.begin(config)
    lab.start({"call": "DeleteEndpoint", **EXPIRED, "times": 3})
    assert "log in again" in lab.finish(config, run)
    wait_for(lambda: records_of(run)["a"].state == "deleted", "what the watchdog deleted")
    assert lab.left() == set()


def test_capacity_is_asked_for_again_within_its_time_in_the_zones_of_the_config(lab):
    zones = {"retry_for_s": 60, "pause_s": 0.2, "subnets": [["subnet-one"], ["subnet-two"]]}
    vpc = {"subnets": ["subnet-one"], "security_group_ids": ["sg-1"]}
    config = fault_config(
        lab.folder,
        ("b",),
        option={"on_no_capacity": zones},
        aws={"region": "us-east-1", "execution_role": "arn:aws:iam::123456789012:role/endpoints", "vpc": vpc},
        endpoints={"max_parallel_loads": 1, "keep": True},
    )
    run = lab.begin(config)
    lab.start({"call": "CreateEndpoint", "becomes": "Failed", "message": CAPACITY, "times": 1})
    lab.finish(config, run)
    record = records_of(run)["b"]
    assert (record.state, record.attempts, record.failure) == ("in_service", 2, None)
    assert lab.left() == {record.endpoint_name}, "of the first attempt nothing is left"
    assert lab.model(record.endpoint_name)["VpcConfig"]["Subnets"] == ["subnet-two"]
    assert len(load_points(run)) == 2
    assert "deleted" in lab.helpers("cleanup", str(run.path))
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


def test_a_container_that_dies_under_load_ends_its_option_only(lab):
    """Its answers up to then are kept; the load point in which it died says nothing of the option."""
    config = fault_config(lab.folder, load=LONG_ENOUGH)
    run = lab.begin(config)
    lab.start()
    lab.kill_engine_at_load_point(config, run, option="b", finished=1)
    records = records_of(run)
    assert records["b"].failure is not None
    assert records["b"].cause == "container crashed"
    assert len([name for name in load_points(run) if name.startswith("b")]) == 1
    assert len([name for name in load_points(run) if name.startswith("a")]) == 2
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


def act_when(run, is_so, act) -> threading.Thread:
    """A thread that waits for a moment of a run and then acts."""
    thread = threading.Thread(target=lambda: (wait_for(lambda: is_so(run), "the moment to act"), act()))
    thread.start()
    return thread


@pytest.mark.parametrize("moment", EXPIRIES)
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
    lab.finish(config, run)
    assert len(load_points(run)) == 2, "it goes on where it stopped"
    assert load_points(run).items() >= intact.items()
    assert lab.left() == set()


@pytest.mark.parametrize(
    "call",
    ["CreateModel", "CreateEndpoint", "DescribeEndpoint", "DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"],
)
def test_a_throttled_control_plane_is_asked_again(lab, call):
    config = fault_config(lab.folder, ("a",))
    run = lab.begin(config)
    lab.start({"call": call, **THROTTLED})
    lab.finish(config, run)
    assert (records_of(run)["a"].state, records_of(run)["a"].failure) == ("deleted", None)
    assert len(load_points(run)) == 2
    assert lab.left() == set()


def test_what_may_not_be_deleted_is_listed_with_the_commands(lab):
    config = fault_config(lab.folder, ("a",))
    run = lab.begin(config)
    lab.start({"call": "DeleteEndpoint", "error_code": "AccessDeniedException", "message": "no permission"})
    said = lab.finish(config, run)
    record = records_of(run)["a"]
    assert "may still cost money" in said and "docs/aws.md" in said
    assert f"aws sagemaker delete-endpoint --region us-east-1 --endpoint-name {record.endpoint_name}" in said
    assert record.may_exist and lab.left() == {record.endpoint_name}
    assert len(load_points(run)) == 2
    lab.from_now_on()
    lab.helpers("cleanup", str(run.path))
    assert lab.left() == set()


def test_an_endpoint_that_somebody_else_deletes_under_load_ends_its_option_only(lab):
    config = fault_config(lab.folder, load=LONG_ENOUGH)
    run = lab.begin(config)
    lab.start()
    act_when(
        run,
        lambda run: [name for name in load_points(run) if name.startswith("a")],
        lambda: lab.client().delete_endpoint(EndpointName=records_of(run)["a"].endpoint_name),
    )
    lab.finish(config, run)
    records = records_of(run)
    assert records["a"].cause == "vanished"
    assert "look who deleted it" in records["a"].failure
    assert len([name for name in load_points(run) if name.startswith("a")]) == 1
    assert len([name for name in load_points(run) if name.startswith("b")]) == 2
    assert lab.left() == set()


@pytest.mark.parametrize("call", ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"])
def test_deletion_that_is_refused_twice_is_repeated(lab, call):
    config = fault_config(lab.folder, ("a",))
    run = lab.begin(config)
    lab.start({"call": call, "error_code": "ValidationException", "message": "Cannot delete now.", "times": 2})
    lab.finish(config, run)
    assert records_of(run)["a"].state == "deleted"
    assert lab.left() == set()


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


@pytest.mark.parametrize("fault", INVOKE_FAULTS)
def test_what_goes_wrong_under_load_is_a_row(lab, fault):
    rule, status = INVOKE_FAULTS[fault]
    config = fault_config(lab.folder, ("a",), generation={"max_output_tokens": 64})  # not all in the first parts
    run = lab.begin(config)
    lab.start({"call": "InvokeEndpoint", "after": 4, **rule})
    lab.finish(config, run)
    found = statuses(run, "a")
    assert found.count(status) == 2, Counter(found)
    assert set(found) == {"ok", status}
    assert lab.left() == set()


def test_six_options_come_up_side_by_side(lab):
    """Each takes so long to create that one after the other they would take six times that."""
    config = fault_config(lab.folder, tuple("abcdef"), endpoints={"max_parallel_endpoints": 6, "max_parallel_loads": 1})
    run = lab.begin(config)
    lab.start({"call": "CreateEndpoint", "delay_s": 4})
    lab.finish(config, run)
    records = records_of(run).values()
    assert max(r.create_called_at for r in records) < min(r.in_service_at for r in records)
    assert len(load_points(run)) == 12
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
