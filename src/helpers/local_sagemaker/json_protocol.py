"""The wire of the control plane: AWS's JSON 1.1 protocol, whose requests name their operation in X-Amz-Target.

Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

import json
import re
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from helpers.local_sagemaker.api import ApiError, Record

SERVICES = {"SageMaker": "sagemaker", "Logs_20140328": "logs"}
"""The services of the control plane: prefix of X-Amz-Target, and the name in a signature."""

UNSIGNED = ("/ping", "/faults")
"""Paths that are no AWS API."""
JSON_CONTENT_TYPE = "application/x-amz-json-1.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=[^/,\s]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request"
)


@web.middleware
async def require_signature(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what AWS would refuse at once: an unsigned request. The signature itself is not verified."""
    if request.path in UNSIGNED:
        return await handler(request)
    authorization = request.headers.get("Authorization", "")
    if not authorization:
        return _refusal("MissingAuthenticationTokenException", "Missing Authentication Token")
    credential = _CREDENTIAL.match(authorization)
    if credential is None:
        return _refusal("IncompleteSignatureException", "Authorization is not an AWS Signature Version 4 header.")
    expected = target_of(request)[0] or "sagemaker"
    if credential["service"] != expected:
        return _refusal("InvalidSignatureException", f"Credential should be scoped to correct service: '{expected}'.")
    return await handler(request)


def _refusal(code: str, message: str) -> web.Response:
    response = json_answer({"__type": code, "message": message}, 403)
    response.headers["x-amzn-ErrorType"] = code
    return response


def target_of(request: web.Request) -> tuple[str, str]:
    """The service, empty for one that is not served here, and the operation that a request is for."""
    prefix, _, operation = request.headers.get("X-Amz-Target", "").partition(".")
    return SERVICES.get(prefix, ""), operation


def region_of(request: web.Request) -> str:
    """The region that a signed request is for."""
    credential = _CREDENTIAL.match(request.headers["Authorization"])
    return credential["region"] if credential else ""


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
