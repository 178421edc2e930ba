"""URLs of HTTP servers (validation, parts, paths below them) and custom headers.

Host names in other alphabets are encoded as IDNA for DNS; IPv6 addresses stay in brackets.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AnyHttpUrl, TypeAdapter, ValidationError

from helpers.config.secret_names import SECRET_NAME

_URL: TypeAdapter[AnyHttpUrl] = TypeAdapter(AnyHttpUrl)
_NEVER_IN_A_URL = re.compile(r"[\s\x00-\x1f\x7f\\]")
_BEGINNING = re.compile(r"https?://[^/]", re.IGNORECASE)

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"}
)
"""Headers that the load generator writes, or that change how the answer is framed."""
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")


def parse_url(text: str) -> AnyHttpUrl:
    """A text parsed as a URL. Raises ValueError with a message that does not repeat the text, which may hold a password."""
    if not _BEGINNING.match(text):
        raise ValueError("expected http:// or https:// and a host, for example http://localhost:8000/v1")
    if _NEVER_IN_A_URL.search(text):
        raise ValueError("expected a URL without spaces, line ends and backslashes. Next: write them as %20 and so on")
    try:
        url = _URL.validate_python(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].rpartition("URL, ")[2]
        raise ValueError(f"expected a URL, but it has an {reason}, for example http://localhost:8000/v1") from None
    if url.fragment is not None:
        raise ValueError("expected a URL without `#`: what follows it is never sent. Next: delete it, or write %23")
    if url.port == 0:
        raise ValueError("expected a port from 1 to 65535")
    return url


def below(base_url: str, path: str) -> str:
    """The URL of a path below a base: the path comes before the query, and only once."""
    parts = urlsplit(str(parse_url(base_url)))
    return parts._replace(path=parts.path.rstrip("/").removesuffix(path) + path).geturl()


def host_of(url: str) -> str:
    """Host and, unless it is the default, port."""
    return urlsplit(str(parse_url(url))).netloc.rpartition("@")[2]


def without_user(url: str) -> tuple[str, str | None]:
    """The URL without `user:password@`, and that part, decoded; None if there was none."""
    parts = urlsplit(url)
    user, there, host = parts.netloc.rpartition("@")
    return (parts._replace(netloc=host).geturl(), unquote(user)) if there else (url, None)


def basic_credentials(user: str) -> str:
    """`user:password` as an HTTP Basic header value (RFC 7617)."""
    return b64encode((user if ":" in user else f"{user}:").encode()).decode()


def secrets_in_query(url: str) -> list[str]:
    """Query values whose names mark them as secrets."""
    return [value for name, value in parse_qsl(urlsplit(url).query) if SECRET_NAME.search(name) or name == "sig"]


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError, without the value, for a header that cannot be sent or that only the load generator writes."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(
                f"{name[:40]!r}: expected the name of an HTTP header, for example api-key. Next: correct it"
            )
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"{name}: the load generator writes this header itself. Next: delete it")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(
                f"{name}: expected visible ASCII characters, with spaces only between them: line ends cannot be sent. "
                "Next: correct it, or export its variable again"
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header occurs twice: names are not case-sensitive. Next: delete one")


def secrets_in_headers(headers: Mapping[str, str]) -> list[str]:
    """Header values whose names mark them as secrets, with and without a leading `Bearer` or `Basic`."""
    found = [headers[name] for name in names_of_secret_headers(headers)]
    return [part for value in found for part in (value, value.rpartition(" ")[2])]


def names_of_secret_headers(headers: Mapping[str, str]) -> list[str]:
    """Headers whose names mark them as secrets."""
    return [name for name in headers if SECRET_NAME.search(name) or name.lower() in _SECRET_HEADERS]
