"""The machines of `load.cluster`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from helpers.config.strict import PositiveInt, Strict, in_words


class ClusterSettings(Strict):
    """Machines of a Ray cluster that send the load together; see docs/cluster.md."""

    address: Annotated[
        str,
        *in_words(
            r"auto|(ray://)?[A-Za-z0-9.\-_]+:[0-9]+|(ray://)?\[[0-9a-fA-F:]+\]:[0-9]+",
            "auto, host:port, or ray://host:port",
            lambda _: "ray://head:10001",
        ),
    ] = Field(default="auto", description="auto: the cluster of which this machine is a node.")
    nodes: PositiveInt = Field(
        le=1000, description="Machines that send; the one that runs the notebooks may be among them."
    )
    processes_per_node: PositiveInt = Field(
        default=1, le=1000, description="Load processes on each, one per CPU; as many CPUs are reserved there."
    )
