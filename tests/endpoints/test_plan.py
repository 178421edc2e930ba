"""The plan: what is made, for how long, what it costs and on what that rests, and whether the quotas suffice."""

from __future__ import annotations

import sys

import boto3
import pytest
import yaml
from aws_stub import aws_on_loopback, empty_home, product
from examples import config_data, make_config, option
from local_sagemaker_calls import create, status_after
from local_sagemaker_fixtures import FAKE_SERVER

from helpers.__main__ import main
from helpers.endpoints.deployments import stay_within_budget
from helpers.endpoints.judging import PROMPT
from helpers.endpoints.quotas import Quota, read_quotas
from helpers.errors import BudgetExceeded
from helpers.report.plan_machines import load_machines_table, machines_table, quota_table
from helpers.report.plan_report import plan_table
from helpers.run import local_server as launcher
from helpers.run.ledger import Ledger

TYPE, REGION = "ml.g6e.xlarge", "us-east-1"
QUOTA = f"{TYPE} for endpoint usage"
LOAD = {"concurrency": [1, 4], "repetitions": 3, "max_duration_s": 60, "request_timeout_s": 30}
TOKEN_PRICE = {"usd_per_1m_input_tokens": 3, "usd_per_1m_output_tokens": 15}


@pytest.fixture(autouse=True)
def aws_stub(tmp_path, monkeypatch):
    with aws_on_loopback(tmp_path, monkeypatch) as stub:
        yield stub


def endpoint(name="a", **changes):
    """A SageMaker option that is deployed to AWS."""
    known = {
        "name": name,
        "target": "sagemaker",
        "api": "openai_chat",
        "instance_type": TYPE,
        "container": {"image": "i"},
        "price": {"usd_per_hour": 6, "source": "an offer", "as_of": "2026-11-01"},
    }
    return {key: value for key, value in {**known, **changes}.items() if value is not None}


EXISTING = endpoint(deploy=False, endpoint_name="there", instance_type=None, container=None, price=None)
BEDROCK = {"name": "a", "target": "bedrock", "model_id": "some.model-v1:0"}
PYTHON = {"name": "a", "target": "python", "file": "mine.py", "api": "openai_chat", "price": {"usd_per_hour": 6}}


def only_row(*args, **kwargs) -> dict[str, str]:
    """Header -> text of the only row of a plan."""
    table = plan_table(make_config(*args, **kwargs))
    (cells,) = table.cells()
    return dict(zip((column.header for column in table.columns), cells, strict=True))


# --- endpoints, minutes, dollars ----------------------------------------------------------------------------------


def test_minutes_and_dollars_rest_on_start_up_and_the_longest_load_points():
    row = only_row([endpoint(instance_count=2)], ["short", "long"], load=LOAD)
    assert row["instances"] == f"2 x {TYPE}"
    assert row["load points"] == "12"
    assert row["estimate, min"] == "28"  # 10 to start, and 12 x (60 s + 30 s)
    assert row["$/h of the option"] == "12.000"
    assert row["estimate, $"] == "5.60"  # 28 / 60 x 2 x 6
    assert row["price from"] == "an offer, 2026-11-01"
    assert row["the estimate rests on"] == "10 min assumed to start a GPU machine; 12 load points of at most 1.5 min"


@pytest.mark.parametrize(
    ("instance_type", "minutes"),
    [("ml.c7i.xlarge", 6), ("ml.g5.xlarge", 10), ("ml.p4d.24xlarge", 15), ("ml.inf2.xlarge", 20)],
)
def test_start_up_is_assumed_by_kind_of_machine(instance_type, minutes):
    row = only_row([endpoint(instance_type=instance_type)], load={**LOAD, "concurrency": [1], "repetitions": 2})
    assert row["estimate, min"] == str(minutes + 3)
    assert f"{minutes} min assumed to start" in row["the estimate rests on"]


@pytest.mark.parametrize(
    ("options", "sections", "makes", "usd", "because"),
    [
        (endpoint(), {}, "model, endpoint config and endpoint, deleted when its load is done", "1.90", "assumed"),
        (endpoint(), {"endpoints": {"keep": True}}, "endpoint, kept when the run ends (endpoints.keep)", "1.90", ""),
        (endpoint(local=True), {}, "a local endpoint, deleted", "0.00", "nothing is billed"),
        (EXISTING, {}, "nothing: there exists, and is left alone", "0.00", "adds nothing to its bill"),
        (option("a", price={"usd_per_hour": 2}), {}, "nothing", "0.00", "adds nothing to its bill"),
        (option("a"), {}, "nothing", "–", "no price is known"),
        (BEDROCK, {}, "Bedrock serves it, service tier default", "–", "prices per token come from the config alone"),
        (
            {**BEDROCK, "service_tier": "flex"},
            {},
            "service tier flex: its price is not that of the default tier",
            "–",
            "",
        ),
        (
            {**BEDROCK, "model_id": "arn:aws:bedrock:us-east-1:1:provisioned-model/x"},
            {},
            "nothing: Bedrock serves it, provisioned throughput",
            "0.00",
            "adds nothing to its bill",
        ),
        (PYTHON, {}, "whatever mine.py makes, deleted", "0.90", "start-up is unknown and not counted"),
    ],
    ids=["made", "kept", "local", "existing", "server", "unpriced", "bedrock", "flex", "provisioned", "python"],
)
def test_each_kind_of_option_says_what_it_makes_and_adds_to_the_bill(options, sections, makes, usd, because):
    row = only_row([options], load=LOAD, **sections)
    assert makes in row["makes"]
    assert row["estimate, $"] == usd
    assert because in row["the estimate rests on"]


def test_the_plan_of_a_race_says_what_each_option_can_serve_at_best_and_how_that_is_known():
    weights = {"kind": "vllm", "image": "vllm", "model_id": "org/model", "active_parameters_b": 10, "weight_bits": 16}
    options = [endpoint(container=weights), endpoint("b", best_output_tokens_per_s=1000), endpoint("c")]
    table = plan_table(make_config(options, load={"concurrency": [1, 4], "race": True}))
    at_best = [row[[column.header for column in table.columns].index("at best")] for row in table.cells()]
    # 4 x 864 GB/s / (20 - 0.256) GB; 6 / 3600 $ / 175 tokens
    assert at_best[0].startswith("175 output tokens/s, $9.52 per 1M: roofline of 1 x NVIDIA L40S (864 GB/s, ")
    assert at_best[1] == "1,000 output tokens/s, $1.67 per 1M: stated as best_output_tokens_per_s"
    assert at_best[2] == "unknown: best_output_tokens_per_s is not stated"
    assert "at best" not in only_row([endpoint()], load={"concurrency": [1, 4]})


def test_a_price_of_the_price_list_is_shown_with_region_and_day(aws_stub):
    aws_stub.products = [product(TYPE, "2.6")]
    row = only_row([endpoint(price=None)])
    assert row["$/h of the option"] == "2.600"
    assert row["price from"].startswith("AWS Price List, us-east-1, on-demand hosting, 20")


def test_the_sum_leaves_out_what_is_unknown_and_says_so():
    options = [endpoint("a"), endpoint("b"), option("c"), {**BEDROCK, "name": "d"}]
    caption = plan_table(make_config(options, load=LOAD)).caption
    assert caption.startswith("Estimated: $3.80 in us-east-1, without 2 options whose cost is unknown.")


@pytest.mark.parametrize(
    ("on", "where"),
    [
        (endpoint(local=True), "Estimated: $0.00. Min"),
        (option("a", price={"usd_per_hour": 2}), "Estimated: $0.00. Min"),
        (EXISTING, "Estimated: $0.00 in us-east-1. Min"),
    ],
)
def test_a_region_is_named_only_where_something_runs_there(on, where):
    assert plan_table(make_config([on], load=LOAD)).caption.startswith(where)


@pytest.mark.parametrize(
    ("budget_usd", "words"),
    [(2, "; budget_usd is 2."), (1.5, "That is above budget_usd 1.5"), (None, "us-east-1. Min")],
)
def test_an_estimate_above_the_budget_is_reported(budget_usd, words):
    caption = plan_table(make_config([endpoint()], load=LOAD, budget_usd=budget_usd)).caption
    assert words in caption


def test_time_in_which_endpoints_wait_for_their_turn_is_reported_as_missing():
    options = [endpoint("a"), endpoint("b"), endpoint("c")]
    endpoints = {"max_parallel_endpoints": 2, "max_parallel_loads": 1}
    words = "Up to 2 endpoints exist at once and 1 are loaded at once"
    assert words in plan_table(make_config(options, endpoints=endpoints)).caption
    assert words not in plan_table(make_config(options, endpoints={"max_parallel_endpoints": 2})).caption


VLLM = {"kind": "vllm", "model_id": "m"}
NEURON = {"kind": "vllm_neuron", "model_id": "m"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"container": VLLM},
            ["al2023-ami-sagemaker-inference-gpu-4-1", "1 x NVIDIA L40S, 44.7 GiB each", "local, 250 GB"],
        ),
        (
            {"container": NEURON, "instance_type": "ml.inf2.8xlarge", "volume_gb": 256},
            ["al2-ami-sagemaker-inference-neuron-2", "1 x AWS Inferentia2, 32 GiB each", "EBS volume, 256 GB"],
        ),
        ({}, ["SageMaker's default for the instance type", "1 x NVIDIA L40S, 44.7 GiB each", "local, 250 GB"]),
        (
            {
                "container": None,
                "jumpstart": {"model_id": "m", "version": "1"},
                "instance_type": "ml.p6e-gb200.36xlarge",
            },
            [
                "by the image of the JumpStart model, which is looked up when it is deployed",
                "4 x NVIDIA GB200, memory unknown",
                "unknown",
            ],
        ),
        ({"instance_type": "ml.c7i.xlarge"}, [None, "none", "EBS volume of SageMaker's default size"]),
    ],
    ids=["gpu", "neuron", "own image", "jumpstart", "cpu"],
)
def test_the_plan_says_which_machine_an_option_gets(changes, said):
    (row,) = machines_table(make_config([endpoint(**changes)])).cells()
    assert all(text in (cell, None) for cell, text in zip(row[1:], said, strict=True)), row


def test_only_endpoints_on_aws_have_a_machine_in_the_plan():
    assert machines_table(make_config([endpoint(local=True), option("b")])) is None


JUDGE_MODEL = {"name": "the judge", "target": "openai", "base_url": "http://127.0.0.1:9/v1", "served_model": "j"}


@pytest.mark.parametrize(
    ("model", "usd", "total", "basis"),
    [
        # 2 x 2 options x 10 answers: (402 + 3) / 3 + 2 x 50 + 100 = 335 tokens in, 500 out
        ({"price": TOKEN_PRICE}, "0.34", "Estimated: $0.34", "at most 13,400 tokens in and 20,000 out"),
        ({"price": {"usd_per_hour": 9}}, "0.00", "Estimated: $0.00", "it runs already: the run adds nothing to its bill"),
        ({}, "–", "Estimated: $0.00, without the judge, whose cost is unknown", "no price is known: quality.judge.model"),
    ],
    ids=["tokens", "by the hour", "unknown"],
)  # fmt: skip
def test_the_plan_has_what_a_judge_may_cost(model, usd, total, basis):
    rubric = "x" * (405 - len(PROMPT))
    judge = {"model": {**JUDGE_MODEL, **model}, "rubric": rubric, "max_output_tokens": 500}
    quality = {"scorer": "judge", "samples": 10, "max_output_tokens": 50, "judge": judge}
    config = make_config(
        [option(name, price={"usd_per_hour": 1}) for name in "ab"],
        prompts={"source": {"kind": "jsonl", "path": "x.jsonl"}},
        datasets=[{"name": "d", "prompt_tokens": [1, 100]}],
        quality=quality,
        budget_usd=1,
    )
    table = plan_table(config)
    (*_, row) = (dict(zip((c.header for c in table.columns), cells, strict=True)) for cells in table.cells())
    assert (row["option"], row["estimate, $"]) == ("the judge", usd)
    assert (
        row[table.columns[-1].header].startswith("twice each of 20 answers") and basis in row[table.columns[-1].header]
    )
    assert table.caption.startswith(total)
    assert ("budget_usd cannot stop what has no price: the judge" in table.caption) is (usd == "–")
    assert "the judge" not in plan_table(config.model_copy(update={"quality": None})).plain()


# --- tokens -------------------------------------------------------------------------------------------------------


def cluster_plan(nodes: int, processes: int, **load: object) -> str:
    cluster = {"nodes": nodes, "processes_per_node": processes}
    return load_machines_table(make_config(load={"repeat_prompts": True, "cluster": cluster, **load})).plain()


def test_the_plan_of_a_cluster_says_what_each_node_sends():
    closed = cluster_plan(2, 3, kind="closed_loop", concurrency=[1, 5, 700])
    for row in (
        "| concurrency 1 | 1 | 1 + 0 |",
        "| concurrency 5 | 2 | 3 + 2 |",
        "| concurrency 700 | 6 | 350 + 350 |",
    ):
        assert row in closed
    assert "alone" not in closed and "too few" not in closed
    assert "| 4 x 117 + 2 x 116 |" in cluster_plan(6, 1, kind="closed_loop", concurrency=[700])
    rates = cluster_plan(2, 2, kind="open_loop", rate=[600, 3000])
    assert "| 600 requests/s | 2 | 300 + 300 |" in rates
    assert "too few: 3000 requests/s takes 6 load processes" in rates
    assert load_machines_table(make_config()) is None


def test_a_cluster_of_which_one_node_is_enough_is_hinted_at():
    said = cluster_plan(3, 2, kind="closed_loop", concurrency=[200])
    assert "One node can do this alone: concurrency 200 takes 2 load processes. Next: set nodes: 1" in said


def test_tokens_cost_at_most_every_prompt_at_its_longest():
    datasets = [{"name": "short", "count": 40}, {"name": "long", "count": 50, "prompt_tokens": [500, 1000]}]
    load = {**LOAD, "concurrency": [1, 2], "min_requests": 1, "warmup_requests": 1, "repeat_prompts": False}
    row = only_row([{**BEDROCK, "price": TOKEN_PRICE}], datasets, load=load)
    # 2 levels x 3 repetitions x (40 x 499 + 50 x 999) tokens sent, and x 90 x 24 received
    usd = 6 * ((40 * 499 + 50 * 999) * 3 + 90 * 24 * 15) / 1e6
    assert row["estimate, $"] == f"{usd:.2f}" == "1.45"
    assert "at most 540 requests" in row["the estimate rests on"]
    assert "$3 and $15 a million tokens" in row["the estimate rests on"]
    assert row["$/h of the option"] == "–"


@pytest.mark.parametrize(
    ("load", "requests"),
    [
        ({"kind": "open_loop", "rate": [0.5, 2], "max_duration_s": 60}, 30 + 120),
        ({"kind": "ramp", "from_rate": 0, "to_rate": 4, "duration_s": 30}, 60),
        # levels 1, 1.5, 2, 3 and 4, of which the last would send 240 in its time, but there are 200 prompts
        (
            {"kind": "search", "over": "rate", "highest": 4, "tolerance": 0.5, "max_duration_s": 60},
            60 + 90 + 120 + 180 + 200,
        ),
    ],
    ids=["open loop", "ramp", "search"],
)
def test_a_schedule_bounds_requests_too(load, requests):
    row = only_row([{**BEDROCK, "price": TOKEN_PRICE}], load={**load, "min_requests": 1, "repeat_prompts": False})
    assert f"at most {requests} requests" in row["the estimate rests on"]


def test_rates_at_which_nothing_can_be_decided_are_named():
    load = {"kind": "open_loop", "rate": [0.5, 2], "max_duration_s": 60}
    caption = plan_table(make_config(load=load)).caption
    assert "to have 2 recommended, add 2.64 to load.rate" in caption, "2 / 0.76"
    raced = plan_table(make_config(load=load | {"race": True, "max_duration_s": 600})).caption
    assert "load.rate" not in raced, "a race measures it"
    assert "At 0.5 requests/s, 60 s are too short to show the SLO, which takes 59 requests or more" in caption


def test_repeated_prompts_leave_the_cost_of_tokens_unknown():
    row = only_row([{**BEDROCK, "price": TOKEN_PRICE}], load={**LOAD, "repeat_prompts": True})
    assert row["estimate, $"] == "–"
    assert "no bound of the cost" in row["the estimate rests on"]


# --- quotas -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sagemaker(tmp_path, monkeypatch):
    """An account that has three endpoints: in service, coming up, failed; the plan finds it by the standard variable."""
    script = tmp_path / "fake_server.py"
    script.write_text(FAKE_SERVER)
    slow = tmp_path / "slow.py"
    slow.write_text("import time; time.sleep(600)")
    engines = {"fake": [sys.executable, str(script)], "slow": [sys.executable, str(slow)]}
    address_file = tmp_path / "address.json"
    server = launcher.ensure_running(address_file, tmp_path / "logs", engines, engine_variables=["CRASH"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
    client = boto3.Session(region_name=REGION).client("sagemaker")
    create(client, "up", "fake", {})
    create(client, "broken", "fake", {"CRASH": "1"})
    create(client, "coming", "slow", {})
    assert status_after(client, "up", "Creating")["EndpointStatus"] == "InService"
    assert status_after(client, "broken", "Creating")["EndpointStatus"] == "Failed"
    yield client
    launcher.stop(address_file)


def quota_cells(options, **sections) -> list[list[str]]:
    return quota_table(make_config(options, aws={"region": REGION}, **sections)).cells()


def test_quota_use_and_need_stand_side_by_side(aws_stub, sagemaker):
    aws_stub.quotas = {"something else": 9, "ml.g6e.xlarge for training job usage": 50, QUOTA: 4}
    aws_stub.default_quotas = {QUOTA: 0, "ml.p5.48xlarge for endpoint usage": 1}
    options = [endpoint("a"), endpoint("b"), endpoint("c", instance_type="ml.p5.48xlarge", instance_count=2)]
    assert quota_cells(options) == [
        [TYPE, "2", "4", "2", "enough", "Service Quotas"],
        ["ml.p5.48xlarge", "2", "1", "0", "too few: ask for 2 at Service Quotas", "Service Quotas, AWS default"],
    ]
    assert {e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]} == {"up", "broken", "coming"}


def test_what_other_endpoints_use_is_not_there_for_this_run(aws_stub, sagemaker):
    aws_stub.quotas = {QUOTA: 3}
    (cells,) = quota_cells([endpoint("a"), endpoint("b")])
    assert cells[1:5] == ["2", "3", "2", "too few: ask for 4 at Service Quotas"]


def test_need_is_what_may_exist_at_once(aws_stub, sagemaker):
    aws_stub.quotas = {QUOTA: 100}
    options = [endpoint(name, instance_count=count) for name, count in (("a", 1), ("b", 3), ("c", 2))]
    (cells,) = quota_cells(options, endpoints={"max_parallel_endpoints": 2})
    assert cells[1] == "5"


def test_a_type_without_a_listed_quota_is_unknown(aws_stub, sagemaker):
    (cells,) = quota_cells([endpoint()])
    assert cells == [TYPE, "1", "–", "2", "unknown: Service Quotas lists no such quota", "–"]


def test_a_refused_look_is_unknown_with_its_reason(aws_stub, sagemaker):
    aws_stub.errors["ListServiceQuotas"] = "AccessDeniedException"
    (cells,) = quota_cells([endpoint()])
    assert cells[2:5] == ["–", "2", "unknown: ListServiceQuotas: AccessDeniedException"]


def test_an_unknown_use_leaves_only_a_quota_that_is_too_small_for_certain(aws_stub, monkeypatch):
    aws_stub.quotas = {QUOTA: 1}
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    (one,) = quota_cells([endpoint()])
    assert one[2:4] == ["1", "–"]
    assert one[4].startswith("unknown: Could not connect to the endpoint URL")
    (two,) = quota_cells([endpoint(instance_count=2)])
    assert two[4] == "too few: ask for 2 at Service Quotas"


def test_without_credentials_quotas_are_unknown_and_nobody_is_asked(aws_stub, tmp_path, monkeypatch):
    empty_home(tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    (cells,) = quota_cells([endpoint()])
    assert cells == [TYPE, "1", "–", "–", "unknown: no AWS credentials were found", "–"]
    assert aws_stub.asked == {}


def test_wrong_aws_settings_leave_quotas_unknown(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    (cells,) = quota_cells([endpoint()])
    assert cells[2:5] == ["–", "–", "unknown: The config profile (nobody) could not be found"]


def test_a_look_that_takes_too_long_is_given_up(aws_stub, monkeypatch):
    monkeypatch.setattr("helpers.endpoints.quotas.LONGEST_S", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    aws_stub.quotas = {QUOTA: 1}
    found = read_quotas([TYPE], REGION)[TYPE]
    assert found.limit is None
    assert found.unknown_because.startswith("list_service_quotas took more than 0 s; Could not connect")


@pytest.mark.parametrize("options", [[endpoint(local=True)], [EXISTING], [option("a")], [BEDROCK]])
def test_a_run_that_makes_nothing_on_aws_asks_for_no_quota(aws_stub, options):
    assert quota_table(make_config(options)) is None
    assert aws_stub.asked == {}


def test_quotas_suffice_up_to_the_last_instance():
    assert Quota(4, "s", 2).suffices(2) is True
    assert Quota(4, "s", 2).suffices(3) is False
    assert Quota(4, "s", None).suffices(4) is None
    assert Quota(None, None, 2).suffices(1) is None


# --- the command --------------------------------------------------------------------------------------------------


def test_the_plan_works_without_credentials_and_without_a_network(tmp_path, monkeypatch, capsys):
    empty_home(tmp_path, monkeypatch)
    for service in ("PRICING", "SERVICE_QUOTAS", "SAGEMAKER"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", "http://127.0.0.1:9")
    path = tmp_path / "c.yml"
    path.write_text(yaml.safe_dump(config_data([endpoint(price=None), {**BEDROCK, "name": "b"}])))
    assert main(["plan", "--config", str(path)]) == 0
    said = capsys.readouterr().out
    assert "| a | model, endpoint config and endpoint" in said
    assert "| 2.605 |" in said  # of data/prices.csv


def test_the_machine_of_a_job_is_in_the_plan_and_in_the_budget(tmp_path, monkeypatch):
    role = "arn:aws:iam::123456789012:role/job"
    unpriced = make_config([endpoint()], load=LOAD, job={"role": role})
    assert (
        "(make submit), the machine that sends the load is billed too, at a price that is unknown"
        in plan_table(unpriced).caption
    )
    priced = make_config(
        [endpoint()], load=LOAD, budget_usd=5, job={"role": role, "usd_per_hour": 1e9, "max_hours": 0.5}
    )
    assert "takes $1e+09 an hour, $500,000,000.00 in max_hours, which counts" in plan_table(priced).caption
    ledger = Ledger(tmp_path / "ledger.json", "run")
    stay_within_budget(priced, ledger)
    (tmp_path / "job.json").touch()
    monkeypatch.setattr("helpers.endpoints.deployments.PROCESSING_JOB", tmp_path / "job.json")
    with pytest.raises(BudgetExceeded, match="of it for the machine of this job"):
        stay_within_budget(priced, ledger)
    stay_within_budget(unpriced.model_copy(update={"budget_usd": 5}), ledger)


def test_the_plan_names_what_a_budget_cannot_stop():
    config = make_config([endpoint("priced"), {**BEDROCK, "name": "Bedrock"}], budget_usd=10)
    assert "budget_usd cannot stop what has no price: Bedrock. Next: give " in plan_table(config).plain()
    config = make_config([endpoint("priced"), {**BEDROCK, "name": "Bedrock", "price": TOKEN_PRICE}], budget_usd=10)
    assert "cannot stop" not in plan_table(config).plain()
