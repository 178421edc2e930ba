"""`InvokeEndpoint`, `InvokeEndpointWithResponseStream` and the OpenAI-compatible path, forwarded to the endpoint's model server;
and, which AWS does not have, `GET /endpoints/NAME/metrics`, the `/metrics` of that server.

This sits between the load generator and the engine, so it adds as little latency as possible: connections to model servers
stay open, and each piece of a streaming answer is framed and written as it arrives. Times are in seconds.
Limits and errors are those of AWS: 25 MB, 60 s for a plain answer, 480 s for a stream; a model error is
424 ModelError before the first byte and a ModelStreamError frame after it.
"""

import asyncio
import json
import socket
import struct
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping

import aiohttp
from aiohttp import web

from local_sagemaker import event_stream
from local_sagemaker.api import ACCOUNT, ApiError
from local_sagemaker.cloudwatch import Metrics
from local_sagemaker.control_plane import ControlPlane, Resource
from local_sagemaker.faults import MODEL_ERROR_STATUS, Fault, FaultRules

MAX_BODY_BYTES = 25 * 1024 * 1024
PLAIN_TIMEOUT_S = 60.0
STREAM_TIMEOUT_S = 480.0
METRICS_TIMEOUT_S = 2.0
MAX_ERROR_CHARACTERS = 4096

COMPONENT_HEADER = "X-Amzn-SageMaker-Inference-Component"
INFERENCE_HEADERS = (
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-Inference-Id",
    "X-Amzn-SageMaker-Session-Id",
    "X-Amzn-SageMaker-Prefix-Aware-Id",
)
"""Passed on to the model server, as SageMaker does."""

ANSWER_HEADERS = (
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-New-Session-Id",
    "X-Amzn-SageMaker-Closed-Session-Id",
)
"""Passed back from the model server to the caller."""

AnswerMethod = Callable[[web.Request, Resource, aiohttp.ClientResponse, Fault | None], Awaitable[web.StreamResponse]]


class DataPlane:
    """The invocation routes. `http` is the connection pool to the model servers."""

    def __init__(
        self, control_plane: ControlPlane, faults: FaultRules, http: aiohttp.ClientSession, metrics: Metrics
    ) -> None:
        self._control_plane = control_plane
        self._faults = faults
        self._http = http
        self._metrics = metrics
        self.invocations_in_flight = 0

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Registers all routes with `router`."""
        router.add_post("/endpoints/{name}/invocations", self._invoke_plain)
        router.add_post("/endpoints/{name}/invocations-response-stream", self._invoke_stream)
        router.add_post("/endpoints/{name}/openai/v1/chat/completions", self._invoke_openai)
        router.add_post(
            "/endpoints/{name}/inference-components/{component}/openai/v1/chat/completions", self._invoke_openai
        )
        router.add_get("/endpoints/{name}/metrics", self._read_metrics)

    async def _invoke_plain(self, request: web.Request) -> web.StreamResponse:
        return await self._invoke(request, PLAIN_TIMEOUT_S, self._answer_plain)

    async def _invoke_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._invoke(request, STREAM_TIMEOUT_S, self._answer_stream)

    async def _invoke_openai(self, request: web.Request) -> web.StreamResponse:
        return await self._invoke(request, STREAM_TIMEOUT_S, self._answer_as_it_comes)

    async def _invoke(self, request: web.Request, timeout_s: float, answer: AnswerMethod) -> web.StreamResponse:
        arrived_s = time.monotonic()
        name = request.match_info["name"]
        fault = self._faults.find("InvokeEndpoint", name)
        if fault:
            await asyncio.sleep(fault.delay_s)
        component = request.match_info.get("component") or request.headers.get(COMPONENT_HEADER)
        try:
            endpoint = self._control_plane.find_invocable(name, component)
        except ApiError as error:
            return _error(error.status, error.code, Message=error.message)
        if fault and fault.error_code and fault.break_after_parts is None:
            return _fault_answer(fault, endpoint)
        body, status = await request.read(), 500
        self.invocations_in_flight += 1
        sent_s = ended_s = time.monotonic()
        try:
            async with self._http.post(
                f"{endpoint.server.url}/invocations",
                data=body,
                headers={**_headers_for_model(request), **endpoint.server.headers},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as model_answer:
                status = model_answer.status
                if model_answer.status >= 400:
                    text = await model_answer.text(errors="replace")
                    return _model_error(endpoint, model_answer.status, text[:MAX_ERROR_CHARACTERS])
                response = await answer(request, endpoint, model_answer, fault)
                ended_s = time.monotonic()
                return response
        except TimeoutError:
            return _model_error(
                endpoint, 0, f"Your invocation timed out after {timeout_s:g} s while waiting for container primary."
            )
        except aiohttp.ClientError as error:
            return _model_error(endpoint, 0, f"The connection to container primary failed: {error}")
        finally:
            self.invocations_in_flight -= 1
            self._metrics.note_invocation(name, _variant_of(endpoint), status, ended_s - sent_s, sent_s - arrived_s)

    async def _read_metrics(self, request: web.Request) -> web.StreamResponse:
        try:
            server = self._control_plane.find_invocable(
                request.match_info["name"], request.headers.get(COMPONENT_HEADER)
            ).server
            timeout = aiohttp.ClientTimeout(total=METRICS_TIMEOUT_S)
            async with self._http.get(f"{server.url}/metrics", headers=server.headers, timeout=timeout) as answer:
                return web.Response(status=answer.status, text=await answer.text(errors="replace"))
        except ApiError as error:
            return _error(error.status, error.code, Message=error.message)
        except (TimeoutError, aiohttp.ClientError) as error:
            return _error(MODEL_ERROR_STATUS, "ModelError", Message=f"container primary has no /metrics: {error}")

    async def _answer_plain(
        self, request: web.Request, endpoint: Resource, model_answer: aiohttp.ClientResponse, fault: Fault | None
    ) -> web.StreamResponse:
        if fault and fault.break_after_parts is not None:
            return reset_connection(request)
        headers = _headers_for_caller(endpoint, model_answer)
        return web.Response(
            body=await model_answer.read(), headers={**headers, "Content-Type": _content_type(model_answer)}
        )

    async def _answer_as_it_comes(
        self, request: web.Request, endpoint: Resource, model_answer: aiohttp.ClientResponse, fault: Fault | None
    ) -> web.StreamResponse:
        """Forwards the stream unframed: a failure after the headers breaks the connection."""
        headers = {**_headers_for_caller(endpoint, model_answer), "Content-Type": _content_type(model_answer)}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        most_parts = fault.break_after_parts if fault else None
        parts = 0
        try:
            async for piece in model_answer.content.iter_any():
                if parts == most_parts:
                    break
                await response.write(piece)
                parts += 1
        except (aiohttp.ClientPayloadError, TimeoutError):
            return reset_connection(request)
        except aiohttp.ClientConnectionResetError:
            return response  # the caller went away
        if most_parts is not None:
            return reset_connection(request)
        await response.write_eof()
        return response

    async def _answer_stream(
        self, request: web.Request, endpoint: Resource, model_answer: aiohttp.ClientResponse, fault: Fault | None
    ) -> web.StreamResponse:
        """Once the headers are sent, a model error can only be reported in a final frame."""
        headers = _headers_for_caller(endpoint, model_answer)
        headers["Content-Type"] = event_stream.CONTENT_TYPE
        headers["X-Amzn-SageMaker-Content-Type"] = _content_type(model_answer)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            if fault is None or fault.break_after_parts is None:
                await _forward(model_answer, response)
            else:
                await _forward(model_answer, response, most_parts=fault.break_after_parts)
                if fault.error_code is None:
                    return reset_connection(request)
                await response.write(_exception_frame(fault.error_code, fault.message))
            await response.write_eof()
        except aiohttp.ClientConnectionResetError:
            pass  # the caller went away; the model server notices because its answer stays unread
        return response


def reset_connection(request: web.Request) -> web.Response:
    """Resets the caller's connection (TCP RST), as a crashed machine would; the returned response is never sent."""
    transport = request.transport
    if transport is not None:
        linger_0_s = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_0_s)
        transport.abort()
    return web.Response()


async def _forward(
    model_answer: aiohttp.ClientResponse, response: web.StreamResponse, most_parts: int | None = None
) -> None:
    parts = 0
    while most_parts is None or parts < most_parts:
        try:
            piece = await model_answer.content.readany()
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = "timed out" if isinstance(error, TimeoutError) else f"broke off: {error}"
            await response.write(_exception_frame("ModelStreamError", f"The answer of container primary {reason}"))
            return
        if not piece:
            return
        await response.write(event_stream.payload_part(piece))
        parts += 1


def _exception_frame(kind: str, message: str) -> bytes:
    body = {"Message": message}
    if kind == "ModelStreamError":
        body["ErrorCode"] = "StreamBroken"
    return event_stream.exception(kind, json.dumps(body).encode())


def _headers_for_model(request: web.Request) -> dict[str, str]:
    headers = _pick(request.headers, INFERENCE_HEADERS)
    headers["Content-Type"] = request.headers.get("Content-Type", "application/octet-stream")
    headers["Accept"] = request.headers.get("X-Amzn-SageMaker-Accept", request.headers.get("Accept", "*/*"))
    return headers


def _headers_for_caller(endpoint: Resource, model_answer: aiohttp.ClientResponse) -> dict[str, str]:
    headers = _pick(model_answer.headers, ANSWER_HEADERS)
    headers["x-amzn-RequestId"] = str(uuid.uuid4())
    headers["x-Amzn-Invoked-Production-Variant"] = _variant_of(endpoint)
    return headers


def _variant_of(endpoint: Resource) -> str:
    """The variant of an endpoint, or of its inference component."""
    return str(endpoint.record.get("VariantName") or endpoint.record["ProductionVariants"][0]["VariantName"])


def _pick(headers: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _content_type(model_answer: aiohttp.ClientResponse) -> str:
    return model_answer.headers.get("Content-Type", "application/octet-stream")


def _model_error(endpoint: Resource, status: int, message: str, http_status: int = MODEL_ERROR_STATUS) -> web.Response:
    blame = "client" if 400 <= status < 500 else "server"
    region = endpoint.arn.split(":")[3]
    return _error(
        http_status,
        "ModelError",
        Message=f'Received {blame} error ({status}) from primary with message "{message}".',
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=f"arn:aws:logs:{region}:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/{endpoint.name}",
    )


def _fault_answer(fault: Fault, endpoint: Resource) -> web.Response:
    """The error that a rule specifies; a ModelError is reported as a status 500 from the container."""
    if fault.error_code == "ModelError":
        return _model_error(endpoint, 500, fault.message, fault.http_status)
    return _error(fault.http_status, fault.error_code or "", Message=fault.message)


def _error(status: int, kind: str, **body: str | int) -> web.Response:
    headers = {"x-amzn-ErrorType": kind, "x-amzn-RequestId": str(uuid.uuid4())}
    return web.json_response(body, status=status, headers=headers)
