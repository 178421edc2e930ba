"""SageMaker endpoints through the SDK against the local SageMaker: JumpStart models, failures, teardown, signing."""

from __future__ import annotations

import json
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import small_server
import yaml
from botocore.exceptions import ClientError
from conftest import SECRET, small_config
from quality_fixtures import write_questions

from helpers.endpoints.deployment import Deployment
from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.quality_pass import collect_answers
from helpers.endpoints.targets import sagemaker
from helpers.endpoints.targets.base import target_of
from helpers.endpoints.targets.sagemaker_resources import MAX_NAME_LENGTH, resource_name
from helpers.endpoints.teardown import delete_remaining
from helpers.errors import DeployError, TeardownError
from helpers.metrics.answers import answers_file
from helpers.prompts.making import make_prompts
from helpers.run.folder import open_run
from helpers.run.ledger import Ledger, utc_now
from helpers.run.prompt_files import write_prompts
from helpers.run.sessions import LOCAL_ROLE, aws_session, session_of_record
from local_sagemaker.tiny_model import default_cache_dir

pytestmark = pytest.mark.slow

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.33.0-lmi15.0.0-cu128"
ENGINE = {"ENGINE_MODEL": "synthetic:2m", "ENGINE_THREADS": "1"}


@pytest.fixture
def jumpstart(tmp_path, monkeypatch):
    """A JumpStart catalogue of one model, read from a folder as the SDK provides for."""
    specs = {
        "model_id": "tiny-llm",
        "url": "",
        "version": "1.0.0",
        "min_sdk_version": "2.49.0",
        "training_supported": False,
        "incremental_training_supported": False,
        "hosting_artifact_key": "tiny/",
        "hosting_script_key": "tiny/",
        "hosting_prepacked_artifact_key": "tiny/prepacked/",
        "hosting_use_script_uri": False,
        "inference_environment_variables": [
            {"name": name, "type": "text", "default": value, "scope": "container", "required_for_model_class": True}
            for name, value in {**ENGINE, "ENGINE_MAX_NUM_SEQS": "8"}.items()
        ],
        "default_inference_instance_type": "ml.g5.2xlarge",
        "supported_inference_instance_types": ["ml.g5.2xlarge"],
        "model_kwargs": {},
        "deploy_kwargs": {},
        "hosting_instance_type_variants": {
            "regional_aliases": {"us-east-1": {"image": IMAGE}},
            "variants": {"g5": {"regional_properties": {"image_uri": "$image"}}},
        },
    }
    folder = tmp_path / "catalogue" / "community_models_specs" / "tiny-llm"
    folder.mkdir(parents=True)
    (folder / "specs_v1.0.0.json").write_text(json.dumps(specs))
    manifest = [
        {
            "model_id": "tiny-llm",
            "version": "1.0.0",
            "min_version": "2.49.0",
            "spec_key": "community_models_specs/tiny-llm/specs_v1.0.0.json",
            "search_keywords": [],
        }
    ]
    (tmp_path / "catalogue" / "models_manifest.json").write_text(json.dumps(manifest))
    for kind in ("MANIFEST", "SPECS"):
        monkeypatch.setenv(f"AWS_JUMPSTART_{kind}_LOCAL_ROOT_DIR_OVERRIDE", str(tmp_path / "catalogue"))


def one_option(folder, sections=None, **option):
    """A config of one local option; `option` replaces its keys, null removes them, `sections` replace those of the config."""
    path = small_config(folder)
    config = yaml.safe_load(path.read_text())
    merged = {**config["options"][0], **option}
    config["options"] = [{key: value for key, value in merged.items() if value is not None}]
    config["local_sagemaker"] = {"engines": {IMAGE: [sys.executable, "-m", "local_sagemaker.engine"]}}
    config |= sections or {}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a run on a config of one option, and deletes what it made."""
    monkeypatch.setenv("TEST_SECRET", SECRET)
    runs = []

    def open_one(**option):
        config, run = open_run(str(one_option(tmp_path, **option)), new=True)
        runs.append(run)
        return config.benchmark, run

    yield open_one
    for run in runs:
        delete_remaining(run, wait_s=30)


def deploy(config, run):
    return start_deployments(config, run, on_change=lambda records: None)


def left_over(record, run) -> list[str]:
    """Names of the endpoints, endpoint configs and models that SageMaker knows."""
    session = session_of_record(record, run)
    if session is None:
        return []
    client = session.client("sagemaker")
    return [
        *(item["EndpointName"] for item in client.list_endpoints()["Endpoints"]),
        *(item["EndpointConfigName"] for item in client.list_endpoint_configs()["EndpointConfigs"]),
        *(item["ModelName"] for item in client.list_models()["Models"]),
    ]


def test_a_jumpstart_id_becomes_image_environment_and_model_data(opened, jumpstart):
    choice = {"model_id": "tiny-llm", "version": "1.0.0", "environment": {"ENGINE_MAX_NUM_SEQS": 2}}
    config, run = opened(container=None, jumpstart=choice, instance_type="ml.g5.2xlarge")
    (record,) = deploy(config, run)
    assert record.state == "in_service"
    client = session_of_record(record, run).client("sagemaker")
    container = client.describe_model(ModelName=record.endpoint_name)["PrimaryContainer"]
    assert container["Image"] == IMAGE
    assert container["Environment"] == {**ENGINE, "ENGINE_MAX_NUM_SEQS": "2"}, "defaults, and the config's overrides"
    assert "tiny/prepacked/" in json.dumps(container)


def test_an_unknown_jumpstart_id_is_reported_with_the_next_step(opened, jumpstart):
    config, run = opened(container=None, jumpstart={"model_id": "tiny-lm"})
    with pytest.raises(DeployError, match=r"tiny-lm.*Next: check id, version and instance type"):
        deploy(config, run)


def test_endpoints_are_tagged_and_named_after_the_run(opened):
    config, run = opened()
    (record,) = deploy(config, run)
    client = session_of_record(record, run).client("sagemaker")
    arn = client.describe_endpoint(EndpointName=record.endpoint_name)["EndpointArn"]
    tags = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}
    assert tags["run-id"] == run.run_id
    assert tags["created-by"] == "llm-serving-verdict"
    assert "expires-at" in tags
    assert record.endpoint_name.startswith(run.run_id)


def test_the_digest_of_the_image_that_runs_is_in_the_ledger(opened, monkeypatch):
    config, run = opened()
    image = {"SpecifiedImage": IMAGE, "ResolvedImage": f"{IMAGE.partition(':')[0]}@sha256:0a"}
    described = {"EndpointStatus": "InService", "LastModifiedTime": datetime.now(UTC)}
    described["ProductionVariants"] = [{"VariantName": "AllTraffic", "DeployedImages": [image]}]
    monkeypatch.setattr(sagemaker, "find_endpoint", lambda *_: described)
    monkeypatch.setattr(sagemaker.SageMakerTarget, "_session", lambda _: Mock())
    ledger = Ledger(run.ledger_file, run.run_id)
    deployment = Deployment(config.options[0], config, run, ledger)
    option = deployment.plan().option
    ledger.update(option, state="creating", create_called_at=utc_now())
    assert deployment.step().image_digest == ledger.record(option).image_digest == "sha256:0a"
    ledger.update(option, state="deleted")


def test_deleting_removes_endpoint_config_and_model_and_may_be_repeated(opened):
    config, run = opened()
    (record,) = deploy(config, run)
    assert len(left_over(record, run)) == 3
    (deleted,) = delete_remaining(run)
    assert deleted.option == record.option
    assert left_over(record, run) == []
    assert delete_remaining(run) == []


def test_an_endpoint_that_is_being_created_is_deleted_once_it_may_be(opened):
    config, run = opened()
    ledger = Ledger(run.ledger_file, run.run_id)
    target = target_of(config.options[0], config, run)
    record = ledger.put(target.plan().model_copy(update={"state": "creating"}))
    target.create(record)
    assert target.status(record).state in ("creating", "in_service"), "in service already where the machine stalls"
    delete_remaining(run, wait_s=30)
    assert left_over(record, run) == []
    assert ledger.records()[0].state == "deleted"


def test_what_cannot_be_deleted_in_time_is_reported_with_the_commands(opened):
    config, run = opened()
    ledger = Ledger(run.ledger_file, run.run_id)
    target = target_of(config.options[0], config, run)
    record = ledger.put(target.plan().model_copy(update={"state": "creating"}))
    target.create(record)
    with pytest.raises(
        TeardownError,
        match=r"may still cost money.*still (Creating|InService|Deleting)[\s\S]*"
        rf"aws sagemaker delete-endpoint .*{record.endpoint_name}",
    ):
        delete_remaining(run, wait_s=0)
    assert ledger.remaining(), "it stays on the list"


def test_a_create_call_that_fails_leaves_nothing_and_says_why(opened):
    config, run = opened(instance_type="ml.g99.large")
    with pytest.raises(DeployError, match=r"ml\.g99\.large.*Next"):
        deploy(config, run)
    (record,) = Ledger(run.ledger_file, run.run_id).records()
    assert record.state == "deleted"
    assert "ml.g99.large" in record.failure
    delete_remaining(run)
    assert left_over(record, run) == []


def test_a_crashing_container_is_reported_in_its_own_words(opened):
    config, run = opened(container={"image": "openvino-genai", "environment": {**ENGINE, "ENGINE_THREADS": "many"}})
    with pytest.raises(DeployError, match="ENGINE_THREADS"):
        deploy(config, run)


def test_a_session_of_the_local_sagemaker_leaves_the_environment_alone(opened, monkeypatch):
    import os

    before = dict(os.environ)
    config, run = opened()
    (record,) = deploy(config, run)
    assert dict(os.environ) == before
    client = session_of_record(record, run).client("sagemaker")
    assert client.meta.endpoint_url.startswith("http://127.0.0.1:")
    with pytest.raises(ClientError, match="Could not find"):
        client.describe_endpoint(EndpointName="another")


def test_names_fit_and_stay_distinct():
    run_id = "a-benchmark-with-a-long-name-x-20261123-141502"
    names = {resource_name(run_id, f"an option with a very long name, number {i}") for i in range(20)}
    assert len(names) == 20
    assert max(map(len, names)) <= MAX_NAME_LENGTH


def test_an_endpoint_that_was_never_made_is_made_when_the_notebook_is_run_again(opened):
    """A crash between the ledger entry and the create call leaves `creating`, and perhaps a model."""
    config, run = opened()
    ledger = Ledger(run.ledger_file, run.run_id)
    target = target_of(config.options[0], config, run)
    half = ledger.put(target.plan().model_copy(update={"state": "creating", "create_called_at": utc_now()}))
    session = aws_session(config.options[0], config, run)
    session.client("sagemaker").create_model(
        ModelName=half.endpoint_name, ExecutionRoleArn=LOCAL_ROLE, PrimaryContainer={"Image": "openvino-genai"}
    )
    (record,) = deploy(config, run)
    assert record.state == "in_service"
    assert record.endpoint_name != half.endpoint_name
    assert sorted(set(left_over(record, run))) == [record.endpoint_name], "what was left half made is deleted"
    assert record.earlier_hours > 0


def test_a_ledger_that_cannot_be_written_does_not_keep_an_endpoint_alive(opened):
    config, run = opened()
    (record,) = deploy(config, run)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # every write to a file fails, as on a full disk
    try:
        with pytest.raises(TeardownError, match="File too large"):
            delete_remaining(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left_over(record, run) == []


# --- answers that are scored --------------------------------------------------------------------------------------

LOGGING_SERVER = f"""
import io, json, os, sys
sys.path.insert(0, {str(Path(small_server.__file__).parent)!r})
import http.server
from small_server import Handler
class Logging(Handler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[1], "ab") as file:
            file.write(body + b"\\n")
        connection, self.rfile = self.rfile, io.BytesIO(body)
        super().do_POST()
        self.rfile = connection
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Logging).serve_forever()
"""


def test_answers_of_an_endpoint_are_collected_with_temperature_0_and_natural_stopping(opened, tmp_path):
    write_questions(tmp_path)
    log, script = tmp_path / "bodies.jsonl", tmp_path / "server.py"
    script.write_text(LOGGING_SERVER)
    config, run = opened(
        sections={
            "prompts": {"source": {"kind": "jsonl", "path": "sums.jsonl"}},
            "datasets": [{"name": "sums", "prompt_tokens": [1, 100], "count": 140}],
            "generation": {"max_output_tokens": 6, "temperature": 0.7, "top_p": 0.9},
            "quality": {"scorer": "numeric", "reference": "solution.sums", "samples": 8, "max_output_tokens": 12},
            "local_sagemaker": {"engines": {IMAGE: [sys.executable, str(script), str(log)]}},
        },
        container={"image": IMAGE},
    )
    write_prompts(make_prompts(config, tmp_path, default_cache_dir()).tables, run.payloads)
    ledger = Ledger(run.ledger_file, run.run_id)
    (record,) = deploy(config, run)
    address = Deployment(config.options[0], config, run, ledger).answering_address()
    assert record.state == "in_service" and collect_answers(config.options[0], address, config, run, lambda: False)
    of_the_load, *bodies = map(json.loads, log.read_text().splitlines())
    assert (of_the_load["temperature"], of_the_load["min_tokens"]) == (0.7, 6)
    for body in bodies:
        assert (body["temperature"], body["max_tokens"]) == (0.0, 12) and body["stream"]
        assert not body.keys() & {"min_tokens", "ignore_eos", "top_p", "top_k"}
    answers = pd.read_parquet(answers_file(config.options[0].name, run))
    texts = [body["messages"][0]["content"] for body in bodies]
    assert len(answers) == len(set(texts)) == 8 and all(text.startswith("What is ") for text in texts)
    assert set(answers["status"]) == {"ok"} and set(answers["output_tokens"]) == {12}
