"""`InvokeEndpoint` and `InvokeEndpointWithResponseStream`: requests go to the endpoint's model server as they come.

It stands between the load generator and the engine, so it adds as little as it can: connections to model servers are
kept open, and each piece of a streaming answer is framed and written as it arrives. Times are in seconds.
Limits and errors are those of AWS: 25 MB, 60 s for a plain answer, 480 s for a stream; an error of the model is
424 ModelError before the first byte and a ModelStreamError frame after it.
"""

import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping

import aiohttp
from aiohttp import web

from helpers.local_sagemaker import event_stream
from helpers.local_sagemaker.control_plane import ACCOUNT, ControlPlane, Resource

MAX_BODY_BYTES = 25 * 1024 * 1024
PLAIN_TIMEOUT_S = 60.0
STREAM_TIMEOUT_S = 480.0
MAX_ERROR_CHARACTERS = 4096

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

AnswerMethod = Callable[[web.Request, Resource, aiohttp.ClientResponse], Awaitable[web.StreamResponse]]


class DataPlane:
    """The two invocation routes. `http` is the pool of connections to the model servers."""

    def __init__(self, control_plane: ControlPlane, http: aiohttp.ClientSession) -> None:
        self._control_plane = control_plane
        self._http = http
        self.invocations_in_flight = 0

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Both routes go to `router`."""
        router.add_post("/endpoints/{name}/invocations", self._invoke_plain)
        router.add_post("/endpoints/{name}/invocations-response-stream", self._invoke_stream)

    async def _invoke_plain(self, request: web.Request) -> web.StreamResponse:
        return await self._invoke(request, PLAIN_TIMEOUT_S, self._answer_plain)

    async def _invoke_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._invoke(request, STREAM_TIMEOUT_S, self._answer_stream)

    async def _invoke(self, request: web.Request, timeout_s: float, answer: AnswerMethod) -> web.StreamResponse:
        name = request.match_info["name"]
        endpoint = self._control_plane.find_in_service(name)
        if endpoint is None or endpoint.server is None:
            return _error(400, "ValidationError", Message=f"Endpoint {name} of account {ACCOUNT} not found.")
        self.invocations_in_flight += 1
        try:
            async with self._http.post(
                f"{endpoint.server.url}/invocations",
                data=await request.read(),
                headers=_headers_for_model(request),
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as model_answer:
                if model_answer.status >= 400:
                    text = await model_answer.text(errors="replace")
                    return _model_error(endpoint, model_answer.status, text[:MAX_ERROR_CHARACTERS])
                return await answer(request, endpoint, model_answer)
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "ValidationError", Message=f"The body is larger than {MAX_BODY_BYTES} bytes.")
        except TimeoutError:
            return _model_error(
                endpoint, 0, f"Your invocation timed out after {timeout_s:g} s while waiting for container primary."
            )
        except aiohttp.ClientError as error:
            return _model_error(endpoint, 0, f"The connection to container primary failed: {error}")
        finally:
            self.invocations_in_flight -= 1

    async def _answer_plain(
        self, _: web.Request, endpoint: Resource, model_answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        headers = _headers_for_caller(endpoint, model_answer)
        return web.Response(
            body=await model_answer.read(), headers={**headers, "Content-Type": _content_type(model_answer)}
        )

    async def _answer_stream(
        self, request: web.Request, endpoint: Resource, model_answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        """Once the headers are out, an error of the model can only be told in a last frame."""
        headers = _headers_for_caller(endpoint, model_answer)
        headers["Content-Type"] = event_stream.CONTENT_TYPE
        headers["X-Amzn-SageMaker-Content-Type"] = _content_type(model_answer)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            await _forward(model_answer, response)
            await response.write_eof()
        except aiohttp.ClientConnectionResetError:
            pass  # the caller went away; leaving the model's answer unread tells the model server so
        return response


async def _forward(model_answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    while True:
        try:
            piece = await model_answer.content.readany()
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = "timed out" if isinstance(error, TimeoutError) else f"broke off: {error}"
            body = {"Message": f"The answer of container primary {reason}", "ErrorCode": "StreamBroken"}
            await response.write(event_stream.exception("ModelStreamError", json.dumps(body).encode()))
            return
        if not piece:
            return
        await response.write(event_stream.payload_part(piece))


def _headers_for_model(request: web.Request) -> dict[str, str]:
    headers = _pick(request.headers, INFERENCE_HEADERS)
    headers["Content-Type"] = request.headers.get("Content-Type", "application/octet-stream")
    headers["Accept"] = request.headers.get("X-Amzn-SageMaker-Accept", request.headers.get("Accept", "*/*"))
    return headers


def _headers_for_caller(endpoint: Resource, model_answer: aiohttp.ClientResponse) -> dict[str, str]:
    headers = _pick(model_answer.headers, ANSWER_HEADERS)
    headers["x-amzn-RequestId"] = str(uuid.uuid4())
    headers["x-Amzn-Invoked-Production-Variant"] = endpoint.record["ProductionVariants"][0]["VariantName"]
    return headers


def _pick(headers: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _content_type(model_answer: aiohttp.ClientResponse) -> str:
    return model_answer.headers.get("Content-Type", "application/octet-stream")


def _model_error(endpoint: Resource, status: int, message: str) -> web.Response:
    blame = "client" if 400 <= status < 500 else "server"
    region = endpoint.arn.split(":")[3]
    return _error(
        424,
        "ModelError",
        Message=f'Received {blame} error ({status}) from primary with message "{message}".',
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=f"arn:aws:logs:{region}:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/{endpoint.name}",
    )


def _error(status: int, kind: str, **body: str | int) -> web.Response:
    headers = {"x-amzn-ErrorType": kind, "x-amzn-RequestId": str(uuid.uuid4())}
    return web.json_response(body, status=status, headers=headers)
