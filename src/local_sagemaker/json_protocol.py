"""The wire of the control plane: AWS's JSON 1.1 protocol, whose requests name their operation in X-Amz-Target.

Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

import json
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from local_sagemaker.api import ApiError, Record

SERVICES = {"SageMaker": "sagemaker", "Logs_20140328": "logs"}
"""The services of the control plane: prefix of X-Amz-Target, and the name in a signature."""

JSON_CONTENT_TYPE = "application/x-amz-json-1.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(error: ApiError) -> web.Response:
    """An error in words that clients of both planes read."""
    response = json_answer({"__type": error.code, "message": error.message}, error.status)
    response.headers["x-amzn-ErrorType"] = error.code
    return response


def target_of(request: web.Request) -> tuple[str, str]:
    """The service, empty for one that is not served here, and the operation that a request is for."""
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
    """An answer with this content."""
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return web.json_response(content, status=status, content_type=JSON_CONTENT_TYPE, headers=headers)
