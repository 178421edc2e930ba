"""What CloudWatch has of endpoints: of the local SageMaker's in a real run, and of moto's, which nothing of ours wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import boto3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aws_stub import refusing
from examples import facts, load_point, make_config, write_run
from examples import request as a_request

from helpers.endpoints import cloudwatch
from helpers.endpoints.cloudwatch import CloudWatch
from helpers.metrics.answers import SCHEMA, answers_file
from helpers.metrics.server_load import server_columns
from helpers.metrics.summary import read_load_points
from helpers.report.limits_report import limits_table
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.run.records import read_requests
from helpers.run.server_samples import CLOUDWATCH, FOLDER, PROMETHEUS, read_samples
from helpers.run.whole_files import write_parquet
from helpers.verdict.published import check_published

pytest_plugins = ["moto_server"]


@pytest.mark.slow
def test_the_local_sagemaker_counts_and_times_what_the_records_hold(finished_run):
    run = finished_run.run
    requests = read_requests(run.requests, ["option", "load_point", "status", "sent_ns", "done_ns"])
    singles = {
        record["option"]: 1 for record in json.loads(run.ledger_file.read_text())["endpoints"]
    }  # the first request
    for option, mine in requests.groupby("option"):
        tables = []
        for point in mine["load_point"].unique():
            rows, trouble = read_samples(run, point)
            assert trouble is None and set(rows["source"]) == {CLOUDWATCH, PROMETHEUS}
            assert {"running", "waiting", "cpu_s"} <= set(rows.loc[rows["source"] == PROMETHEUS, "name"])
            of_the_moment = rows["source"] == PROMETHEUS
            written = pq.read_table(run.path / FOLDER / f"{point}.parquet")["period_s"]
            assert written.null_count == of_the_moment.sum(), "unknown is null, not NaN"
            rows = rows[~of_the_moment]
            assert set(rows["period_s"]) == {60.0}
            tables.append(rows.assign(minute=(rows["time_ns"] / 6e10).round(1)))
        rows = pd.concat(tables).drop_duplicates(["name", "minute"])
        sums = rows.groupby("name")["value"].sum()
        # the first request may have come in a minute before that of the load
        assert sums["Invocations"] in (len(mine), len(mine) + singles[option])
        assert (sums["Invocation4XXErrors"], sums["Invocation5XXErrors"]) == (0, 0)
        server_s = sum(sums[name] / sums[f"{name}Count"] for name in ("ModelLatency", "OverheadLatency")) / 1e6
        client_s = float((mine["done_ns"] - mine["sent_ns"]).astype(float).mean()) / 1e9
        assert 0.3 * client_s < server_s <= client_s * 1.05
        assert 0 < rows.loc[rows["name"] == "CPUUtilization", "value"].max() < 200
        assert 0 < rows.loc[rows["name"] == "MemoryUtilization", "value"].max() < 100
    assert "CloudWatch" not in finished_run.said


BEGIN_S = 1_790_000_040  # a whole minute
OPTION = {
    "name": "a",
    "target": "sagemaker",
    "deploy": False,
    "endpoint_name": "theirs",
    "api": "openai_chat",
    "instance_type": "ml.g5.12xlarge",
}


@pytest.fixture
def published(moto_server, tmp_path, monkeypatch, request):
    """`published(invocations, latency_us)`: the run of an option that answered 60 requests within three minutes, after CloudWatch
    was asked, and the columns of its load point.
    """
    monkeypatch.setattr(cloudwatch, "WAIT_S", 0.0)
    monkeypatch.setattr(cloudwatch, "READ_TIMEOUT_S", 60)  # moto is in this process, which may be busy
    if "describes" not in request.fixturenames:
        monkeypatch.setattr(CloudWatch, "_variant_of", lambda *_: "blue")  # moto's endpoints have none of their own
    config = make_config([OPTION])
    measured = [facts(10.0, 170.0, repetition=1, clock_pairs=[(0, BEGIN_S * 1_000_000_000)])]
    run = RunFolder(tmp_path)
    (run.path / "run.json").write_text(json.dumps({"machine": {"vcpus": 2}}))
    write_run(run.requests, [a_request(3.0 * i, 0.5, 0.1, repetition=1) for i in range(60)], measured)
    record = EndpointRecord(
        option="a",
        target="sagemaker",
        endpoint_name="theirs",
        instance_type="ml.g5.12xlarge",
        instance_count=1,
        region="us-east-1",
    )

    def publish(
        invocations: float,
        latency_us: float = 450_000.0,
        away: str = "",
        scored=0,
        replicate=None,
        made=None,
        scored_s=0,
    ):
        client = boto3.client("cloudwatch", region_name="us-east-1")
        for namespace, name, value in (
            ("AWS/SageMaker", "Invocations", invocations / 3),
            ("AWS/SageMaker", "ModelLatency", latency_us),
            ("AWS/SageMaker", "OverheadLatency", 2000.0),
            ("/aws/sagemaker/Endpoints", "GPUUtilization", 380.0),
            ("/aws/sagemaker/Endpoints", "CPUUtilization", 2400.0),
            ("/aws/sagemaker/Endpoints", "MemoryUtilization", 37.0),
        ):
            data = [
                {
                    "MetricName": name,
                    "Dimensions": [
                        {"Name": "EndpointName", "Value": "theirs"},
                        {"Name": "VariantName", "Value": "blue"},
                    ],
                    "Timestamp": datetime.fromtimestamp(BEGIN_S + 60 * minute, UTC),
                    "Value": value if not namespace.endswith("/Endpoints") or minute == 1 else 0.0,
                }
                for minute in range(3)
            ]
            client.put_metric_data(Namespace=namespace, MetricData=data)
        if away:
            monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", away)
        if scored:
            row = {"dataset": "short", "status": "ok", "wall_ns": (BEGIN_S + scored_s) * 1_000_000_000}
            rows = [{**row, "prompt_id": str(i)} for i in range(scored)]
            write_parquet(answers_file("a", run), pa.Table.from_pylist(rows, schema=SCHEMA))
        asked, option = CloudWatch(config, run), config.options[0]
        option = option if replicate is None else option.as_replicate(replicate)
        asked.ask(option, record.model_copy(update={"create_called_at": made}))
        asked.ask_again()
        (point,) = read_load_points(run.requests, measured, config)
        return server_columns(point, run, record), list(check_published(run, measured, config))

    return publish


def test_utilisation_counts_in_whole_minutes_of_the_window_and_for_all_gpus(published):
    columns, warnings = published(60)
    assert columns["server_gpu"] == pytest.approx(0.95)
    assert (columns["server_cpu"], columns["server_memory"]) == pytest.approx((0.5, 0.37)), "it has 48 vCPUs"
    assert (columns["server_requests"], columns["server_trouble"]) == (None, None)
    assert warnings == []
    table = limits_table(pd.DataFrame([load_point(**columns)]), make_config([OPTION]))
    assert [column.header for column in table.columns][3:] == ["GPU, %", "CPU, %", "memory, %"]
    assert (
        table.cells()[0][3:] == ["95", "50", "37"] and "; memory is the share of it that was in use." in table.caption
    )


@pytest.mark.parametrize(
    ("invocations", "latency_us", "kind", "row"),
    [
        (120, 450_000.0, "other_traffic", "a: 120 invocations by CloudWatch, 60 requests by the client"),
        (
            60,
            900_000.0,
            "server_latency",
            "a: mean latency 500 ms by the client, its first token after 100 ms; 902 ms by",
        ),
        (
            60,
            20_000.0,
            "server_latency",
            "a: mean latency 500 ms by the client, its first token after 100 ms; 22.0 ms by",
        ),
    ],
)
def test_a_disagreement_is_said_with_both_numbers(published, invocations, latency_us, kind, row):
    _, (warning,) = published(invocations, latency_us)
    assert warning.kind == kind
    assert warning.rows[0].startswith(row)


def test_answers_that_were_scored_are_no_traffic_of_others(published):
    assert published(120, scored=60)[1] == []


@pytest.mark.parametrize(
    "file",
    [
        "single_requests/a__short.parquet",
        "single_requests/set_aside/a__short-17.parquet",
        "control_blocks/a__short__c1__control.parquet",
        "requests/set_aside/a__short__c1__r1-17.parquet",
    ],
)
def test_what_the_run_sent_besides_its_load_points_is_no_traffic_of_others(published, tmp_path, file):
    besides = tmp_path / file
    besides.parent.mkdir(parents=True)
    pd.DataFrame({"request_id": map(str, range(60))}).to_parquet(besides)
    assert published(120)[1] == []


@pytest.mark.parametrize(("replicate", "is_its"), [(1, True), (2, False)])
def test_an_endpoint_is_compared_with_what_it_was_sent_itself(published, replicate, is_its):
    """Its load point is of the first repetition, which is the first endpoint's."""
    columns, _ = published(60, replicate=replicate)
    assert ("server_gpu" in columns) is is_its


@pytest.mark.parametrize(("later_s", "is_its"), [(-60, True), (60, False)])
def test_an_endpoint_of_a_run_that_was_continued_is_not_asked_about_the_load_of_an_earlier_one(
    published, later_s, is_its
):
    columns, _ = published(60, made=datetime.fromtimestamp(BEGIN_S + later_s, UTC).isoformat())
    assert ("server_gpu" in columns) is is_its


@pytest.mark.parametrize(("scored_s", "are_its"), [(-3600, False), (300, True)])
def test_answers_that_were_scored_at_an_earlier_endpoint_are_not_waited_for(published, scored_s, are_its):
    made = datetime.fromtimestamp(BEGIN_S - 60, UTC).isoformat()
    columns, _ = published(60, scored=60, made=made, scored_s=scored_s)
    late = "CloudWatch had 60 invocations after 0 s, of 120 answers that came"
    assert columns["server_trouble"] == (late if are_its else None)


def test_what_came_too_late_is_said_and_not_compared(published):
    columns, warnings = published(30)
    assert columns["server_trouble"] == "CloudWatch had 30 invocations after 0 s, of 60 answers that came"
    assert warnings == []


def test_a_call_that_fails_is_said_once_and_loses_nothing(published, capsys):
    columns, warnings = published(60, away="http://127.0.0.1:9")
    said = capsys.readouterr().err
    assert said.count("Warning: CloudWatch was not read: ") == 1 and "Next: nothing; a new run asks again" in said
    assert (columns, warnings) == ({}, [])


LOG_IN, NOTHING = "Next: log in again", "Next: nothing; a new run asks again"


@pytest.mark.parametrize(
    ("code", "status", "step"),
    [
        ("AccessDeniedException", 400, "Next: allow cloudwatch:GetMetricData as docs/policies/caller.json does"),
        ("ExpiredToken", 403, LOG_IN),
        ("Throttling", 400, NOTHING),
        ("InvalidParameterValue", 400, "Next: look at what AWS said"),
    ],
)
def test_the_next_step_is_that_of_the_cause(published, capsys, code, status, step):
    with refusing(code, status) as url:
        published(60, away=url)
    said = capsys.readouterr().err
    assert said.count("CloudWatch was not read") == 1 and code in said
    assert said.rstrip().endswith(step) or (step == LOG_IN and step in said)


@pytest.fixture
def describes():
    """With it, the endpoint's variant is asked for."""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "allow sagemaker:DescribeEndpoint as"),
        ("ValidationException", "look at what AWS said"),
    ],
)
def test_an_endpoint_that_cannot_be_looked_at_is_said(describes, published, capsys, monkeypatch, code, said):
    with refusing(code, 400) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)
        assert published(60) == ({}, [])
    assert said in capsys.readouterr().err
