"""Who may call the local SageMaker: anyone who has its secret, and no web page.

Any user of this machine can reach a loopback port, and so can a web page through DNS rebinding. Every call except a ping is
therefore verified as AWS does it, with botocore's own signer.
Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html; for the bearer tokens of the OpenAI-compatible
path, sagemaker.core.token_generator.
"""

import base64
import binascii
import hmac
import re
import time
from calendar import timegm
from functools import lru_cache
from hashlib import sha256
from urllib.parse import unquote

from aiohttp import web
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest, HTTPHeaders
from botocore.credentials import Credentials

from local_sagemaker.api import ApiError
from local_sagemaker.json_protocol import Handler, refusal, target_of

ACCESS_KEY_ID = "local"
CLOCK_TOLERANCE_S = 300
"""What AWS allows."""
UNSIGNED = ("/ping",)
SERVER_NAMES = ("127.0.0.1", "localhost")

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key_id>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)"
    r"/aws4_request,\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


OPENAI_PATH = "/openai/v1/"
TOKEN_PREFIX = "sagemaker-api-key-"
TOKEN_PLACE = "sagemaker.amazonaws.com/?"
LONGEST_TOKEN_LIFE_S = 43_200
EMPTY_BODY = sha256(b"").hexdigest()


class Gate:
    """Admits only calls that are signed with this server's secret."""

    def __init__(self, secret: str) -> None:
        self._credentials = Credentials(ACCESS_KEY_ID, secret)

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Passes a call on, with its region in `request["region"]`, or refuses it as AWS does."""
        try:
            _check_addressee(request)
            if request.path not in UNSIGNED:
                await self._check_signature(request)
        except ApiError as error:
            return refusal(error)
        return await handler(request)

    async def _check_signature(self, request: web.Request) -> None:
        authorization = request.headers.get("Authorization", "")
        if not authorization:
            raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
        if authorization.startswith("Bearer ") and OPENAI_PATH in request.path:
            request["region"] = self._region_of_token(authorization.removeprefix("Bearer ").strip())
            return
        claim = _AUTHORIZATION.fullmatch(authorization.strip())
        if claim is None:
            raise ApiError(
                "IncompleteSignatureException", "Authorization is not an AWS Signature Version 4 header.", 403
            )
        if not hmac.compare_digest(claim["key_id"].encode(), ACCESS_KEY_ID.encode()):
            message = "The security token included in the request is invalid."
            raise ApiError("UnrecognizedClientException", message, 403)
        expected = target_of(request)[0] or "sagemaker"
        if claim["service"] != expected:
            raise _mismatch(f"Credential should be scoped to correct service: '{expected}'.")
        stamp = _fresh_stamp(request, claim["date"])
        body = await _body_of(request)
        signed = _signed_part(request, claim["headers"].split(";"), body)
        signed.context["timestamp"] = stamp
        signer = _Signer(self._credentials, claim["service"], claim["region"])
        right = signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
        if not hmac.compare_digest(right, claim["signature"]):
            raise _mismatch(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method."
            )
        request["region"] = claim["region"]

    def _region_of_token(self, token: str) -> str:
        """The region of a bearer token (a presigned URL in base64). Raises `ApiError` for a token that AWS would refuse."""
        try:
            url = base64.b64decode(token.removeprefix(TOKEN_PREFIX), validate=True).decode()
        except (binascii.Error, ValueError):
            url = ""
        pairs = [pair.partition("=")[::2] for pair in url.removeprefix(TOKEN_PLACE).split("&")]
        query = {name: unquote(value) for name, value in pairs}
        if not (token.startswith(TOKEN_PREFIX) and url.startswith(TOKEN_PLACE) and len(query) == len(pairs)):
            raise _bad_token("it is not one of SageMaker's")
        if (query.get("Action"), query.get("Version"), query.get("X-Amz-SignedHeaders")) != (
            "CallWithBearerToken",
            "1",
            "host",
        ):
            raise _bad_token("it is for another action")
        key_id, *scope = query.get("X-Amz-Credential", "").split("/")
        if key_id != ACCESS_KEY_ID or len(scope) != 4 or scope[2:] != ["sagemaker", "aws4_request"]:
            raise _bad_token("its credentials are unknown")
        _check_life(query, scope[0])
        covered = "&".join(f"{name}={value}" for name, value in pairs if name not in ("X-Amz-Signature", "Version"))
        signed = AWSRequest(method="POST", url=f"https://{TOKEN_PLACE}{covered}")
        signed.context |= {"timestamp": query["X-Amz-Date"], "body_sha256": EMPTY_BODY}
        signer = _Signer(self._credentials, scope[2], scope[1])
        right = signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
        if not hmac.compare_digest(right.encode(), query.get("X-Amz-Signature", "").encode()):
            raise _bad_token("its signature does not match")
        return scope[1]


def _check_life(query: dict[str, str], date: str) -> None:
    """Raises `ApiError` for a token that is expired or not yet valid."""
    try:
        begins_s, life_s = _seconds_of(query.get("X-Amz-Date", "")), int(query.get("X-Amz-Expires", ""))
    except ValueError as error:
        raise _bad_token("its time cannot be read") from error
    if query["X-Amz-Date"][:8] != date or not 0 < life_s <= LONGEST_TOKEN_LIFE_S:
        raise _bad_token(f"it may live for {LONGEST_TOKEN_LIFE_S} s at most")
    if not begins_s - CLOCK_TOLERANCE_S <= time.time() < begins_s + life_s:
        raise _bad_token("it has expired")


def _bad_token(why: str) -> ApiError:
    return ApiError("AccessDeniedException", f"The bearer token is invalid: {why}.", 403)


class _Signer(SigV4Auth):
    """botocore's signer, which reuses the body's hash and the signing key instead of computing them per request."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["body_sha256"])

    def signature(self, string_to_sign: str, request: AWSRequest) -> str:
        day = request.context["timestamp"][:8]
        key = _signing_key(self.credentials.secret_key, day, self._region_name, self._service_name)
        return hmac.digest(key, string_to_sign.encode(), "sha256").hex()


@lru_cache(maxsize=16)
def _signing_key(secret_key: str, *scope: str) -> bytes:
    """`scope` is day, region and service, in this order."""
    key = f"AWS4{secret_key}".encode()
    for part in (*scope, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _check_addressee(request: web.Request) -> None:
    """Refuses what a browser sends on behalf of a foreign page: another Host or Origin."""
    port = request.transport.get_extra_info("sockname")[1] if request.transport else 0
    own = [f"{name}:{port}" for name in SERVER_NAMES]
    if [host.lower() for host in request.headers.getall("Host", [])] not in ([name] for name in own):
        raise ApiError("AccessDeniedException", f"Host is not that of this server, expected {own[0]}", 403)
    if any(origin not in (f"http://{name}" for name in own) for origin in request.headers.getall("Origin", [])):
        raise ApiError("AccessDeniedException", "Calls from web pages are refused", 403)


def _fresh_stamp(request: web.Request, date: str) -> str:
    """The signature's timestamp, as written in the header."""
    stamp = request.headers.get("X-Amz-Date", "")
    try:
        signed_s = _seconds_of(stamp)
    except ValueError as error:
        raise _mismatch("X-Amz-Date is not a time such as 20260131T235959Z.") from error
    if stamp[:8] != date or abs(time.time() - signed_s) > CLOCK_TOLERANCE_S:
        raise _mismatch(f"Signature expired: {stamp} is not within {CLOCK_TOLERANCE_S} s of this server's clock.")
    return stamp


@lru_cache(maxsize=16)
def _seconds_of(stamp: str) -> int:
    """Seconds since 1970; raises ValueError. Cached, because all requests within a second share a stamp."""
    return timegm(time.strptime(stamp, SIGV4_TIMESTAMP))


async def _body_of(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError("ValidationError", f"The body is larger than {request.client_max_size} bytes.", 413) from error


def _signed_part(request: web.Request, names: list[str], body: bytes) -> AWSRequest:
    """The part of the request that its signature covers, which must include the body and every AWS header."""
    headers = HTTPHeaders()
    for name, value in request.headers.items():
        if name.lower() in names:
            headers.add_header(name, value)
        elif name.lower() == "host" or name.lower().startswith("x-amz"):
            raise _mismatch(f"'{name.lower()}' must be a 'SignedHeader' in the AWS Authorization.")
    if headers.get("X-Amz-Content-SHA256", digest := sha256(body).hexdigest()) != digest:
        raise _mismatch("x-amz-content-sha256 is not the hash of the body.")
    signed = AWSRequest(
        method=request.method, url=f"http://{request.headers['Host']}{request.raw_path}", headers=headers
    )
    signed.context["body_sha256"] = digest
    return signed


def _mismatch(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message, 403)
