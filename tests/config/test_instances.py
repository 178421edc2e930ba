"""data/instances.csv is whole, and says what AWS says."""

from __future__ import annotations

import csv
import gzip
import json
from importlib import resources

import pytest
from botocore.session import get_session
from pydantic import ValidationError

from helpers.config.containers.accelerators import INSTANCES, accelerators_on, instance_of
from helpers.config.options import SageMakerOption

SERVICE = get_session().get_service_model("sagemaker")
TYPES = SERVICE.shape_for("ProductionVariantInstanceType").enum
ROWS = list(csv.DictReader(INSTANCES.open(encoding="utf-8", newline="")))
OF_A_CHIP_OF_TRAINIUM2 = 96
"""GiB. EC2 says 512; https://aws.amazon.com/ec2/instance-types/trn2/ says 1.5 TB for 16."""


def said_by_ec2() -> dict[str, dict]:
    """EC2's answer to DescribeInstanceTypes, of which moto keeps a copy."""
    file = resources.files("moto.ec2") / "resources" / "instance_types.json.gz"
    return {f"ml.{name}": each for name, each in json.loads(gzip.decompress(file.read_bytes())).items()}


def test_every_hosting_type_of_botocore_stands_in_the_file_once():
    assert sorted(row["instance_type"] for row in ROWS) == sorted(TYPES)
    for row in ROWS:
        assert row["family"] == row["instance_type"].split(".")[1]
        assert row["accelerator"] and row["as_of"] and row["source"]
        assert (row["accelerator"] == "none") == (row["count"] == "0")


def test_facts_are_those_of_ec2():
    ec2 = said_by_ec2()
    compared = [row for row in ROWS if row["instance_type"] in ec2]
    assert len(compared) > 260
    for row in compared:
        each, name = ec2[row["instance_type"]], row["instance_type"]
        (chip,) = each.get("GpuInfo", {}).get("Gpus") or each.get("NeuronInfo", {}).get("NeuronDevices") or [None]
        assert int(row["count"]) == (chip["Count"] if chip else 0), name
        if chip and row["family"] != "trn2":
            assert float(row["memory_gib_each"]) == pytest.approx(chip["MemoryInfo"]["SizeInMiB"] / 1024, abs=0.01)
        if "NeuronInfo" in each:
            assert accelerators_on(name) == chip["Count"] * chip["CoreInfo"]["Count"]
        assert int(row["vcpus"]) == each["VCpuInfo"]["DefaultVCpus"], name
        assert float(row["host_memory_gib"]) == each["MemoryInfo"]["SizeInMiB"] / 1024
        assert float(row["local_disk_gb"]) == each.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0), name
    assert instance_of("ml.trn2.48xlarge").memory_gib_each == OF_A_CHIP_OF_TRAINIUM2


def option(**changes: object) -> SageMakerOption:
    """A SageMaker option with an image of one's own."""
    keys = {"name": "a", "target": "sagemaker", "api": "openai_chat", "container": {"image": "mine:1"}}
    return SageMakerOption.model_validate(keys | changes)


@pytest.mark.parametrize("instance_type", ["ml.g7e.2xlarge", "ml.p6-b200.48xlarge", "ml.g6.xlarge", "ml.m5d.large"])
def test_a_volume_is_refused_where_there_are_disks(instance_type):
    with pytest.raises(ValidationError, match=r"has local disks: SageMaker refuses a volume size\. Next: delete"):
        option(instance_type=instance_type, volume_gb=100)


def test_a_volume_is_taken_where_there_is_no_disk_and_refused_where_that_is_unknown():
    assert option(instance_type="ml.inf2.xlarge", volume_gb=100).volume_gb == 100
    assert option(instance_type="ml.p3.2xlarge", volume_gb=100).volume_gb == 100
    for unknown, fact in (("ml.g9.xlarge", "accelerators"), ("ml.p6e-gb200.36xlarge", "disks")):
        with pytest.raises(ValidationError, match=rf"does not know the {fact} of '{unknown}'.*Next: correct"):
            option(instance_type=unknown, volume_gb=100)
