"""Models, endpoint configs, endpoints, inference components and their tags: the control plane of the local SageMaker.

Requests are checked against botocore's description of SageMaker, so that what AWS refuses is refused here with the same
message. Times are seconds since the epoch. Names are shared by all regions.
Container environments may hold secrets: they are stored, passed to the model server and shown by `DescribeModel`, as on
AWS, and never logged.
"""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from local_sagemaker.api import ACCOUNT, ApiError, Record, check_parameters
from local_sagemaker.faults import Fault
from local_sagemaker.model_servers import ContainerSpec, ModelServer, ModelServers
from local_sagemaker.variants import (
    COMPONENT_NOT_ALLOWED,
    COMPONENT_REQUIRED,
    describe_endpoint_of,
    only_container,
    only_variant,
    why_not_invocable,
)

DEFAULT_PAGE_SIZE = 10
DEFAULT_STARTUP_TIMEOUT_S = 600


@dataclass
class Resource:
    """One model, endpoint config, endpoint or inference component: `record` is what Describe shows, `refusal`
    InvokeEndpoint's error for an endpoint without a model server."""

    name: str
    arn: str
    record: Record
    tags: dict[str, str]
    server: ModelServer | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class ResourceKind:
    """A kind of resource and how the API names it, e.g. Endpoint, endpoint, Endpoints."""

    noun: str
    arn_noun: str
    list_key: str
    summary_keys: tuple[str, ...]
    resources: dict[str, Resource] = field(default_factory=dict)

    @property
    def name_key(self) -> str:
        """The key of a resource's name, e.g. EndpointName."""
        return f"{self.noun}Name"

    @property
    def arn_key(self) -> str:
        """The key of a resource's ARN, e.g. EndpointArn."""
        return f"{self.noun}Arn"


class ControlPlane:
    """The state of the account and the operations on it. `call` is the only way in for requests."""

    def __init__(self, model_servers: ModelServers) -> None:
        self._model_servers = model_servers
        self._models = ResourceKind("Model", "model", "Models", ("CreationTime",))
        self._configs = ResourceKind("EndpointConfig", "endpoint-config", "EndpointConfigs", ("CreationTime",))
        self._endpoints = ResourceKind(
            "Endpoint", "endpoint", "Endpoints", ("CreationTime", "LastModifiedTime", "EndpointStatus")
        )
        self._components = ResourceKind(
            "InferenceComponent",
            "inference-component",
            "InferenceComponents",
            (
                "CreationTime",
                "LastModifiedTime",
                "InferenceComponentStatus",
                "EndpointName",
                "EndpointArn",
                "VariantName",
            ),
        )
        self._operations: dict[str, Callable[[Record, str], Record]] = {
            "CreateModel": self._create_model,
            "CreateEndpointConfig": self._create_endpoint_config,
            "CreateEndpoint": self._create_endpoint,
            "DeleteEndpoint": self._delete_endpoint,
            "CreateInferenceComponent": self._create_component,
            "DeleteInferenceComponent": self._delete_component,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
        }
        for kind in self._kinds:
            self._operations[f"Describe{kind.noun}"] = partial(_describe, kind)
            self._operations[f"List{kind.list_key}"] = partial(_list, kind)
        for kind in (self._models, self._configs):
            self._operations[f"Delete{kind.noun}"] = partial(_delete, kind)

    @property
    def _kinds(self) -> tuple[ResourceKind, ...]:
        return self._models, self._configs, self._endpoints, self._components

    @property
    def is_empty(self) -> bool:
        """Whether no resources remain that a user could forget to delete."""
        return not any(kind.resources for kind in self._kinds)

    def call(self, operation: str, parameters: Record, region: str, fault: Fault | None = None) -> Record:
        """Performs one operation, e.g. CreateModel, and returns its answer; raises `ApiError`.

        Of a `fault`, only its effects on a new endpoint apply here: how long Creating lasts, and whether it fails.
        """
        if operation not in self._operations:
            raise ApiError(
                "UnknownOperationException",
                f"{operation} is not part of the local SageMaker; it knows {', '.join(sorted(self._operations))}",
            )
        check_parameters("sagemaker", operation, parameters)
        if operation == "CreateEndpoint":
            return self._create_endpoint(parameters, region, fault)
        return self._operations[operation](parameters, region)

    def find_invocable(self, name: str, component: str | None) -> Resource:
        """The endpoint, or its inference component, if its model server is ready for requests; raises `ApiError` otherwise."""
        endpoint = self._endpoints.resources.get(name)
        if endpoint is None or endpoint.record["EndpointStatus"] != "InService":
            raise _not_invocable(f"Endpoint {name} of account {ACCOUNT} not found.")
        if component is None:
            if endpoint.server is None:
                raise _not_invocable(endpoint.refusal or f"Endpoint {name} of account {ACCOUNT} not found.")
            return endpoint
        if endpoint.refusal != COMPONENT_REQUIRED:
            raise _not_invocable(COMPONENT_NOT_ALLOWED)
        found = self._components.resources.get(component)
        if found is None or (found.record["EndpointName"], found.record["InferenceComponentStatus"]) != (
            name,
            "InService",
        ):
            raise _not_invocable(f"Inference Component {component} of endpoint {name} not found.")
        return found

    def _create_model(self, parameters: Record, region: str) -> Record:
        only_container(parameters)
        return _create(self._models, parameters, region)

    def _create_endpoint_config(self, parameters: Record, region: str) -> Record:
        self._model_of(only_variant(parameters))
        return _create(self._configs, parameters, region)

    def _create_endpoint(self, parameters: Record, region: str, fault: Fault | None = None) -> Record:
        config = _find(self._configs, parameters["EndpointConfigName"]).record
        variant = only_variant(config)
        model = self._model_of(variant)
        answer = _create(self._endpoints, parameters, region)
        endpoint = self._endpoints.resources[parameters["EndpointName"]]
        endpoint.record.update(
            EndpointStatus="Creating",
            LastModifiedTime=endpoint.record["CreationTime"],
            **describe_endpoint_of(config, model),
        )
        endpoint.refusal = why_not_invocable(config)
        delay_s = fault.delay_s if fault else 0.0
        if fault and fault.becomes:
            _end_creating(endpoint, delay_s, fault.becomes, FailureReason=fault.message)
        elif endpoint.refusal or model is None:
            _end_creating(endpoint, delay_s, "InService")
        else:
            endpoint.server = self._start_model_server(endpoint, variant, only_container(model), delay_s)
        return answer

    def _start_model_server(
        self, endpoint: Resource, variant: Record, container: Record, delay_s: float
    ) -> ModelServer:
        """The endpoint is in service when the server is ready, but not before `delay_s` have passed."""
        earliest = time.monotonic() + delay_s
        return self._model_servers.start(
            ContainerSpec(
                endpoint_name=endpoint.name,
                variant_name=variant["VariantName"],
                image=container.get("Image", ""),
                environment=dict(container.get("Environment") or {}),
                startup_timeout_s=variant.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_STARTUP_TIMEOUT_S),
            ),
            on_ready=lambda: _end_creating(endpoint, earliest - time.monotonic(), "InService"),
            on_failure=lambda reason: _set_status(endpoint, "Failed", FailureReason=reason),
        )

    def _create_component(self, parameters: Record, region: str) -> Record:
        endpoint = _find(self._endpoints, parameters["EndpointName"])
        if endpoint.refusal != COMPONENT_REQUIRED:
            raise ApiError("ValidationException", f'Endpoint "{endpoint.arn}" takes no inference components.')
        if parameters.get("RuntimeConfig", {}).get("CopyCount", 1) != 1:
            raise ApiError("ValidationException", "The local SageMaker runs one copy of an inference component.")
        container = only_container(_find(self._models, parameters["Specification"].get("ModelName", "")).record)
        answer = _create(self._components, parameters, region)
        component = self._components.resources[parameters["InferenceComponentName"]]
        variant = endpoint.record["ProductionVariants"][0]
        component.record.update(
            InferenceComponentStatus="Creating",
            LastModifiedTime=component.record["CreationTime"],
            EndpointArn=endpoint.arn,
            VariantName=variant["VariantName"],
            RuntimeConfig={"DesiredCopyCount": 1, "CurrentCopyCount": 1},
        )
        component.server = self._start_model_server(component, variant, container, 0.0)
        return answer

    def _delete_component(self, parameters: Record, _: str) -> Record:
        component = _find(self._components, parameters["InferenceComponentName"])
        _set_status(component, "Deleting")
        self._model_servers.stop(component.server, on_stopped=partial(_forget, self._components, component.name))
        return {}

    def _model_of(self, variant: Record) -> Record | None:
        """The model that a variant names; None for a variant that will hold inference components."""
        return _find(self._models, variant["ModelName"]).record if "ModelName" in variant else None

    def _delete_endpoint(self, parameters: Record, _: str) -> Record:
        endpoint = _find(self._endpoints, parameters["EndpointName"])
        if endpoint.record["EndpointStatus"] in ("Creating", "Deleting"):
            raise ApiError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
        if any(each.record["EndpointName"] == endpoint.name for each in self._components.resources.values()):
            raise ApiError("ValidationException", f'Endpoint "{endpoint.arn}" still has inference components.')
        _set_status(endpoint, "Deleting")
        forget = partial(_forget, self._endpoints, endpoint.name)
        if endpoint.server is None:
            forget()
        else:
            self._model_servers.stop(endpoint.server, on_stopped=forget)
        return {}

    def _add_tags(self, parameters: Record, _: str) -> Record:
        resource = self._find_by_arn(parameters["ResourceArn"])
        resource.tags.update(_tags(parameters))
        return _shown_tags(resource)

    def _list_tags(self, parameters: Record, _: str) -> Record:
        return _shown_tags(self._find_by_arn(parameters["ResourceArn"]))

    def _delete_tags(self, parameters: Record, _: str) -> Record:
        resource = self._find_by_arn(parameters["ResourceArn"])
        for key in parameters["TagKeys"]:
            resource.tags.pop(key, None)
        return {}

    def _find_by_arn(self, arn: str) -> Resource:
        for kind in self._kinds:
            for resource in kind.resources.values():
                if resource.arn == arn:
                    return resource
        raise ApiError("ValidationException", f'Could not find resource "{arn}".')


# Records


def _create(kind: ResourceKind, parameters: Record, region: str) -> Record:
    name = parameters[kind.name_key]
    arn = f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind.arn_noun}/{name.lower()}"
    if name in kind.resources:
        raise ApiError("ValidationException", f'Cannot create already existing {kind.arn_noun} "{arn}".')
    described = {key: value for key, value in parameters.items() if key != "Tags"}
    record = {**described, kind.arn_key: arn, "CreationTime": time.time()}
    kind.resources[name] = Resource(name, arn, record, _tags(parameters))
    return {kind.arn_key: arn}


def _find(kind: ResourceKind, name: str) -> Resource:
    if name not in kind.resources:
        raise ApiError("ValidationException", f'Could not find {kind.arn_noun} "{name}".')
    return kind.resources[name]


def _describe(kind: ResourceKind, parameters: Record, _: str) -> Record:
    return _find(kind, parameters[kind.name_key]).record


def _delete(kind: ResourceKind, parameters: Record, _: str) -> Record:
    _forget(kind, _find(kind, parameters[kind.name_key]).name)
    return {}


def _forget(kind: ResourceKind, name: str) -> None:
    del kind.resources[name]


def _status_key(resource: Resource) -> str:
    return "EndpointStatus" if "EndpointStatus" in resource.record else "InferenceComponentStatus"


def _set_status(resource: Resource, status: str, **more: str) -> None:
    resource.record.update({_status_key(resource): status, "LastModifiedTime": time.time(), **more})


def _not_invocable(message: str) -> ApiError:
    return ApiError("ValidationError", message)


def _end_creating(resource: Resource, delay_s: float, status: str, **more: str) -> None:
    """Sets the status after `delay_s`, unless the endpoint is no longer Creating."""

    def end() -> None:
        if resource.record[_status_key(resource)] == "Creating":
            _set_status(resource, status, **more)

    asyncio.get_running_loop().call_later(max(0.0, delay_s), end)


def _tags(parameters: Record) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in parameters.get("Tags") or []}


def _shown_tags(resource: Resource) -> Record:
    return {"Tags": [{"Key": key, "Value": value} for key, value in resource.tags.items()]}


# Lists


def _list(kind: ResourceKind, parameters: Record, _: str) -> Record:
    """One page, newest first by default. A token names the last resource shown, so that resources created or deleted
    between two pages neither repeat nor hide others."""
    sort_key = {"Name": kind.name_key, "Status": "EndpointStatus"}.get(parameters.get("SortBy", ""), "CreationTime")
    descending = parameters.get("SortOrder", "Descending") == "Descending"

    def position(resource: Resource) -> tuple[Any, str]:
        return resource.record[sort_key], resource.name

    rows = [resource for resource in kind.resources.values() if _is_wanted(resource, parameters)]
    rows.sort(key=position, reverse=descending)
    if "NextToken" in parameters:
        last = _read_token(parameters["NextToken"])
        rows = [row for row in rows if (position(row) < last if descending else position(row) > last)]
    page = rows[: parameters.get("MaxResults", DEFAULT_PAGE_SIZE)]
    keys = (kind.name_key, kind.arn_key, *kind.summary_keys)
    answer: Record = {kind.list_key: [{key: row.record[key] for key in keys} for row in page]}
    if len(rows) > len(page):
        answer["NextToken"] = base64.b64encode(json.dumps(position(page[-1])).encode()).decode()
    return answer


def _read_token(token: str) -> tuple[Any, str]:
    try:
        value, name = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError, TypeError) as error:
        raise ApiError("ValidationException", f'NextToken "{token}" is not a token of this operation.') from error
    return value, name


def _is_wanted(resource: Resource, parameters: Record) -> bool:
    record = resource.record
    if parameters.get("NameContains", "").lower() not in resource.name.lower():
        return False
    if "StatusEquals" in parameters and record.get("EndpointStatus") != parameters["StatusEquals"]:
        return False
    for key in ("CreationTime", "LastModifiedTime"):
        if f"{key}Before" in parameters and not record[key] < parameters[f"{key}Before"]:
            return False
        if f"{key}After" in parameters and not record[key] > parameters[f"{key}After"]:
            return False
    return True
