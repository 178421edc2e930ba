"""Where prices come from: the config, the AWS Price List (on loopback) with its copy on disk, the price file."""

from __future__ import annotations

import csv
import json
import time
from datetime import UTC, date, datetime, timedelta

import pytest
from aws_stub import aws_on_loopback, empty_home, product
from examples import make_config, option

from helpers.endpoints import price_list
from helpers.endpoints.pricing import PRICE_LIST, price_of
from helpers.price import Price
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.verdict.analysis import read_endpoints

TYPE, REGION = "ml.g5.xlarge", "us-east-1"
LISTED = f"AWS Price List, {REGION}, on-demand hosting"
CSV_PRICE = 1.408
"""What data/prices.csv says of TYPE; the stub says something else."""
TODAY = datetime.now(UTC).date()


@pytest.fixture
def aws_stub(tmp_path, monkeypatch):
    with aws_on_loopback(tmp_path, monkeypatch) as stub:
        yield stub


def sagemaker(**changes):
    """A SageMaker option without a price of its own."""
    option = {
        "name": "a",
        "target": "sagemaker",
        "api": "openai_chat",
        "instance_type": TYPE,
        "container": {"image": "i"},
        **changes,
    }
    option = {key: value for key, value in option.items() if value is not None}
    return make_config([option]).options[0]


def kept_file(region=REGION, instance_type=TYPE):
    return price_list.default_cache_dir() / region / f"{instance_type}.json"


def keep(usd_per_hour, day, **where):
    """Put a price on disk as if it had been asked for on that day."""
    path = kept_file(**where)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"usd_per_hour": usd_per_hour, "as_of": day.isoformat()}))


def listed(usd, day):
    return Price(usd_per_instance_hour=usd, source=LISTED, as_of=day)


# --- the Price List -----------------------------------------------------------------------------------------------


def test_the_price_list_says_what_an_endpoint_on_aws_costs_and_when_it_was_asked(aws_stub):
    aws_stub.products = [product(TYPE, "1.5000000000")]
    assert price_of(sagemaker(), REGION, 4) == listed(1.5, TODAY)


def test_the_price_is_the_region_s_own(aws_stub):
    frankfurt = {"regionCode": "eu-central-1", "usagetype": f"EUC1-Host:{TYPE}"}
    aws_stub.products = [product(TYPE, "1.5"), product(TYPE, "1.9", **frankfurt)]
    found = price_of(sagemaker(), "eu-central-1", 4)
    assert (found.usd_per_instance_hour, found.source) == (1.9, "AWS Price List, eu-central-1, on-demand hosting")


def test_what_was_found_to_serve_counts_where_the_option_does_not_say(aws_stub):
    aws_stub.products = [product("ml.g6.xlarge", "1.2")]
    existing = sagemaker(deploy=False, endpoint_name="there", instance_type=None, container=None)
    assert price_of(existing, REGION, 4) is None
    assert aws_stub.asked == {}
    assert price_of(existing, REGION, 4, instance_type="ml.g6.xlarge").usd_per_instance_hour == 1.2


@pytest.mark.parametrize(
    "other",
    [
        product(TYPE, "9", usagetype=f"USE1-AsyncInf:{TYPE}"),
        product(TYPE, "9", usagetype=f"USE1-Host:{TYPE}-reserved"),
        product(TYPE, "9", component="Training"),
        product(TYPE, "9", unit="GB-Mo"),
        product(TYPE, "0.0000000000"),
        product(TYPE, None),
        product(TYPE, "NaN"),
        product("ml.g5.xlarge2", "9"),
        product(TYPE, "9", regionCode="us-west-2"),
    ],
    ids=[
        "async",
        "reserved",
        "training",
        "no hour",
        "prepaid",
        "no dollars",
        "no number",
        "other type",
        "other region",
    ],
)
def test_what_is_no_hourly_hosting_price_is_passed_over(aws_stub, other):
    aws_stub.products = [other, product(TYPE, "1.5"), other]
    assert price_of(sagemaker(), REGION, 4).usd_per_instance_hour == 1.5
    assert price_list.only_hourly_price(aws_stub.products, TYPE, REGION) == 1.5


def test_two_prices_are_none(aws_stub):
    aws_stub.products = [product(TYPE, "1.5"), product(TYPE, "1.6")]
    assert price_list.hosting_price(TYPE, REGION) is None
    assert price_of(sagemaker(), REGION, 4).usd_per_instance_hour == CSV_PRICE
    assert not kept_file().exists()


def test_a_second_price_on_a_later_page_is_seen(aws_stub):
    aws_stub.products = [product(TYPE, "1.5")] * 2 + [product(TYPE, "1.6")]
    assert price_list.hosting_price(TYPE, REGION) is None
    assert aws_stub.asked["GetProducts"] == 2


@pytest.mark.parametrize("junk", [{}, {"product": None}, {"product": {"attributes": []}, "terms": 3}])
def test_a_product_of_an_unknown_shape_is_passed_over(junk):
    assert price_list.only_hourly_price([junk, [], None, product(TYPE, "1.5")], TYPE, REGION) == 1.5


# --- when it is not asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"price": {"usd_per_hour": 3}}, 3.0),
        ({"local": True}, CSV_PRICE),
        ({"local": True, "instance_type": "ml.g5.unheard"}, None),
    ],
)
def test_stated_prices_and_local_options_ask_nobody(aws_stub, changes, expected):
    aws_stub.products = [product(TYPE, "1.5")]
    found = price_of(sagemaker(**changes), REGION, 4)
    assert (found and found.usd_per_instance_hour) == expected
    assert aws_stub.asked == {}


@pytest.mark.parametrize(
    "other",
    [
        option("a", instance_type=TYPE),
        {"name": "a", "target": "python", "file": "x.py", "api": "openai_chat", "instance_type": TYPE},
        {"name": "a", "target": "bedrock", "model_id": "m", "instance_type": TYPE},
    ],
    ids=lambda other: other["target"],
)
def test_what_does_not_run_on_sagemaker_asks_nobody(aws_stub, other):
    aws_stub.products = [product(TYPE, "1.5")]
    price = price_of(make_config([other]).options[0], REGION, 4)
    assert (price is None) if other["target"] == "bedrock" else price.usd_per_instance_hour == CSV_PRICE
    assert aws_stub.asked == {}


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_other_partitions_are_not_asked(aws_stub, region):
    assert price_of(sagemaker(), region, 4) is None
    assert aws_stub.asked == {}


# --- the copy on disk ---------------------------------------------------------------------------------------------


def test_a_kept_price_serves_for_a_week_with_its_date(aws_stub):
    day = TODAY - timedelta(days=6)
    keep(1.1, day)
    assert price_of(sagemaker(), REGION, 4) == listed(1.1, day)
    assert aws_stub.asked == {}


def test_an_older_price_is_asked_for_again(aws_stub):
    keep(1.1, TODAY - timedelta(days=9))
    aws_stub.products = [product(TYPE, "1.5")]
    assert price_of(sagemaker(), REGION, 4) == listed(1.5, TODAY)
    assert json.loads(kept_file().read_text()) == {"usd_per_hour": 1.5, "as_of": TODAY.isoformat()}


def test_an_older_price_serves_with_its_date_where_nobody_answers(aws_stub):
    day = TODAY - timedelta(days=200)
    keep(1.1, day)
    aws_stub.errors["GetProducts"] = "AccessDeniedException"
    assert price_of(sagemaker(), REGION, 4) == listed(1.1, day)


@pytest.mark.parametrize("content", ["", "[]", '{"usd_per_hour": -1, "as_of": "2026-01-01"}', '{"usd_per_hour": 1.1}'])
def test_a_kept_file_that_cannot_be_read_is_replaced(aws_stub, content):
    keep(1.1, TODAY)
    kept_file().write_text(content)
    aws_stub.products = [product(TYPE, "1.5")]
    assert price_of(sagemaker(), REGION, 4).usd_per_instance_hour == 1.5
    assert json.loads(kept_file().read_text())["usd_per_hour"] == 1.5


def test_a_price_that_cannot_be_kept_is_still_a_price(aws_stub):
    aws_stub.products = [product(TYPE, "1.5")]
    kept_file().parent.parent.parent.mkdir(parents=True)
    kept_file().parent.parent.write_text("a file where the folder should be")
    assert price_of(sagemaker(), REGION, 4).usd_per_instance_hour == 1.5


# --- where nobody answers -----------------------------------------------------------------------------------------


def test_a_refusal_is_no_error_and_is_not_repeated_for_each_option(aws_stub):
    aws_stub.errors["GetProducts"] = "ThrottlingException"
    assert [
        price_of(sagemaker(instance_type=kind), REGION, 4).usd_per_instance_hour for kind in (TYPE, "ml.g6.xlarge")
    ] == [
        CSV_PRICE,
        1.1267,
    ]
    assert aws_stub.asked == {"GetProducts": 1}


def test_without_credentials_the_price_file_serves(aws_stub, tmp_path, monkeypatch):
    empty_home(tmp_path, monkeypatch)
    found = price_of(sagemaker(), REGION, 4)
    assert (found.usd_per_instance_hour, found.as_of) == (CSV_PRICE, date(2026, 4, 21))
    assert aws_stub.asked == {}


@pytest.mark.parametrize("setting", [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL_PRICING", "no url")])
def test_wrong_aws_settings_are_no_error(aws_stub, monkeypatch, setting):
    monkeypatch.setenv(*setting)
    assert price_of(sagemaker(), REGION, 4).usd_per_instance_hour == CSV_PRICE


def test_a_price_list_that_does_not_answer_is_given_up_soon(aws_stub, monkeypatch):
    monkeypatch.setattr(price_list, "READ_TIMEOUT_S", 0.2)
    aws_stub.errors["GetProducts"] = "hangs"
    began = time.monotonic()
    assert price_of(sagemaker(), REGION, 4).usd_per_instance_hour == CSV_PRICE
    assert time.monotonic() - began < 20  # the stub would hang for 30 s
    assert aws_stub.asked == {"GetProducts": 1}


# --- the price file -----------------------------------------------------------------------------------------------


def test_the_price_file_has_one_dated_and_sourced_price_for_each_type_and_region():
    with PRICE_LIST.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["instance_type"], row["region"]) for row in rows]
    assert len(set(keys)) == len(keys) >= 30
    for row in rows:
        assert None not in row and set(row) == {"instance_type", "region", "usd_per_hour", "as_of", "source"}
        assert row["instance_type"].startswith("ml.") and float(row["usd_per_hour"]) > 0 and row["source"]
        assert date.fromisoformat(row["as_of"]) <= TODAY


# --- judging a run again ------------------------------------------------------------------------------------------


def judged_again(tmp_path, option_data, price):
    """The record of a run that was measured at `price` and is judged with the option as it is now."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / "run.json").write_text(json.dumps({"machine": {"vcpus": 4}}))
    record = EndpointRecord(
        option="a",
        target="sagemaker",
        endpoint_name="e",
        instance_type=TYPE,
        instance_count=1,
        region=REGION,
        price=price,
    )
    Ledger(run.ledger_file, run.run_id).put(record)
    data = {
        "name": "a",
        "target": "sagemaker",
        "api": "openai_chat",
        "instance_type": TYPE,
        "container": {"image": "i"},
    }
    (judged,) = read_endpoints(make_config([{**data, **option_data}]), run)
    return judged.price


def test_judging_again_keeps_a_price_that_was_looked_up(aws_stub, tmp_path):
    aws_stub.products = [product(TYPE, "9.9")]
    measured = listed(1.5, date(2026, 1, 5))
    assert judged_again(tmp_path, {}, measured) == measured
    assert aws_stub.asked == {}


def test_judging_again_takes_the_price_that_the_config_states_now(aws_stub, tmp_path):
    stated = {"price": {"usd_per_hour": 2.5, "source": "offer"}}
    assert judged_again(tmp_path, stated, listed(1.5, date(2026, 1, 5))) == Price(
        usd_per_instance_hour=2.5, source="offer"
    )


def test_judging_again_looks_up_a_price_that_was_unknown(aws_stub, tmp_path):
    aws_stub.products = [product(TYPE, "1.7")]
    assert judged_again(tmp_path, {}, None) == listed(1.7, TODAY)
