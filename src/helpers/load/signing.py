"""AWS Signature Version 4, for many requests that differ only in a request id, the body and the time.

What does not change (method, path, most headers) is put into its canonical form once; the signing key is derived once a
day. The clock and the credentials, which renew themselves, are looked at once a second: that is as fine as the time in
a signature, and AWS takes a clock that differs by five minutes.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import time
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials

ALGORITHM = "AWS4-HMAC-SHA256"
TOKEN_PREFIX = "sagemaker-api-key-"
TOKEN_LIFE_S = 3600
"""AWS takes up to twelve hours."""


class _Second(NamedTuple):
    """All that holds for the signatures of one second."""

    headers: bytes
    """The header lines that the signature adds, up to the signature itself."""
    canonical_start: bytes
    canonical_end: bytes
    """The canonical request, in two parts: the request id comes between them, the hash of the body after them."""
    to_sign: bytes
    """The string to sign, up to the hash of the canonical request."""
    key: bytes


class RequestSigner:
    """Signs POST requests to one URL."""

    def __init__(
        self,
        credentials: Credentials,
        service: str,
        region: str,
        url: str,
        headers: dict[str, str],
        request_id_header: str,
    ) -> None:
        """`headers`: those that all requests send alike, with `Host`; all of them are signed, and the request id."""
        self._credentials = credentials
        self._service, self._region = service, region
        self._request = f"POST\n{_canonical_path(url)}\n{_canonical_query(url)}\n"
        self._headers = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        self._request_id_header = request_id_header.lower()
        self._frozen: ReadOnlyCredentials | None = None
        self._date = ""
        self._key = b""
        self._at: int | None = None
        self._second: _Second | None = None

    def sign(self, request_id: str, body_sha256: str, at_s: float | None = None) -> bytes:
        """The header lines to add: date, session token if there is one, authorization. They end with a line end.

        `request_id` is sent unchanged, without spaces at its ends. `at_s`: seconds since 1970; by default, now.
        """
        now = int(time.time() if at_s is None else at_s)
        if now != self._at:
            self._second = self._begin_second(now)
            self._at = now
        headers, start, end, to_sign, key = self._second
        canonical = b"%b%b%b%b" % (start, request_id.encode(), end, body_sha256.encode())
        signature = hmac.digest(key, to_sign + sha256(canonical).hexdigest().encode(), "sha256").hex()
        return b"%b%b\r\n" % (headers, signature.encode())

    def _begin_second(self, now: int) -> _Second:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        frozen = self._credentials.get_frozen_credentials()
        if frozen != self._frozen or stamp[:8] != self._date:
            self._frozen, self._date = frozen, stamp[:8]
            self._key = _signing_key(frozen.secret_key, self._date, self._region, self._service)
        scope = f"{self._date}/{self._region}/{self._service}/aws4_request"
        signed = {**self._headers, self._request_id_header: "\n", "x-amz-date": stamp}
        added = f"X-Amz-Date: {stamp}\r\n"
        if frozen.token:
            signed["x-amz-security-token"] = frozen.token
            added += f"X-Amz-Security-Token: {frozen.token}\r\n"
        names = ";".join(sorted(signed))
        canonical = self._request + "".join(f"{name}:{signed[name]}\n" for name in sorted(signed)) + f"\n{names}\n"
        start, _, end = canonical.partition(f"{self._request_id_header}:\n")
        added += f"Authorization: {ALGORITHM} Credential={frozen.access_key}/{scope}, SignedHeaders={names}, Signature="
        return _Second(
            headers=added.encode(),
            canonical_start=f"{start}{self._request_id_header}:".encode(),
            canonical_end=end.encode(),
            to_sign=f"{ALGORITHM}\n{stamp}\n{scope}\n".encode(),
            key=self._key,
        )


class BearerToken:
    """SageMaker's bearer token in place of a signature: a URL that is signed in advance, renewed when half its life is over.

    It is as good as the credentials while it lives, and no longer: with new credentials comes a new token. Source:
    https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-openai-compatible.html
    """

    def __init__(self, credentials: Credentials, service: str, region: str, life_s: int = TOKEN_LIFE_S) -> None:
        self._credentials = credentials
        self._service, self._region = service, region
        self._life_s = life_s
        self._frozen: ReadOnlyCredentials | None = None
        self._at, self._renew_at = 0, 0
        self._header = b""
        self.sign("", "")  # what is imported for it is imported before the load

    def sign(self, request_id: str, body_sha256: str) -> bytes:
        """The header line to add, with its line end; the same for all requests until the token is renewed."""
        now = int(time.time())
        if now != self._at:
            self._at = now
            frozen = self._credentials.get_frozen_credentials()
            if frozen != self._frozen or now >= self._renew_at:
                self._frozen, self._renew_at = frozen, now + self._life_s // 2
                token = bearer_token(frozen, self._service, self._region, self._life_s)
                self._header = f"Authorization: Bearer {token}\r\n".encode()
        return self._header


def bearer_token(frozen: ReadOnlyCredentials, service: str, region: str, life_s: int) -> str:
    """A token from now on, for `life_s` seconds, as `sagemaker.core.token_generator` makes it, which takes seconds to load."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    host = f"{service}.amazonaws.com"
    action = {"Action": "CallWithBearerToken"}
    request = AWSRequest(method="POST", url=f"https://{host}/", headers={"host": host}, params=action)
    SigV4QueryAuth(frozen, service, region, expires=life_s).add_auth(request)
    url = f"{request.url.removeprefix('https://')}&Version=1"
    return TOKEN_PREFIX + b64encode(url.encode()).decode()


def _signing_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_path(url: str) -> str:
    """The path as it is sent, normalised and encoded once more, as every service but S3 wants it."""
    from botocore.utils import normalize_url_path

    return quote(normalize_url_path(urlsplit(url).path), safe="/~")


def _canonical_query(url: str) -> str:
    pairs = [pair.partition("=") for pair in urlsplit(url).query.split("&") if pair]
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))
