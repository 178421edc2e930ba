"""The control plane's wire protocol, AWS JSON 1.1: requests name their operation in X-Amz-Target.

Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

import json
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from local_sagemaker.api import ApiError, Record

SERVICES = {"SageMaker": "sagemaker", "Logs_20140328": "logs", "GraniteServiceVersion20100801": "monitoring"}
"""The control plane's services: prefix of X-Amz-Target -> name in a signature."""

JSON_CONTENT_TYPE = "application/x-amz-json-1.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(error: ApiError) -> web.Response:
    """An error in a format that clients of both planes understand."""
    response = json_answer({"__type": error.code, "message": error.message}, error.status)
    response.headers["x-amzn-ErrorType"] = error.code
    return response


def target_of(request: web.Request) -> tuple[str, str]:
    """The service (empty if it is not served here) and the operation of a request."""
    prefix, _, operation = request.headers.get("X-Amz-Target", "").partition(".")
    return SERVICES.get(prefix, ""), operation


async def read_json(request: web.Request) -> Record:
    """The parameters of a call; raises `ApiError` where the body is not a JSON object."""
    try:
        content = json.loads(await request.read() or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", f"The body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ApiError("SerializationException", "The body is not a JSON object.")
    return content


def json_answer(content: Record, status: int = 200) -> web.Response:
    """A JSON answer."""
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return web.json_response(content, status=status, content_type=JSON_CONTENT_TYPE, headers=headers)
