"""Whether a load point met a server at all: requests that got no answer while nobody can be reached say nothing of it.

Times are in seconds.
"""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from helpers.targets.base import Address

PROBE_TIMEOUT_S = 5.0
NO_ANSWER = ("connection", "stream_broken", "timeout")
"""What requests end with when server or network go away."""


def why_unreachable(address: Address) -> str | None:
    """Why no server answers at an address now; null if one does, whatever it says to an empty request."""
    url = urlsplit(address.url)
    try:
        if url.scheme == "https":
            trust = ssl.create_default_context(cafile=address.ca_file)
            connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=PROBE_TIMEOUT_S, context=trust)
        else:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("POST", url.path or "/", b"{}", {"Content-Type": "application/json"})
            connection.getresponse()
        finally:
            connection.close()
    except TimeoutError:
        return f"no answer within {PROBE_TIMEOUT_S:g} s"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return None


def lost_its_server(records: Path, address: Address) -> str | None:
    """What speaks for it that a load point lost its server or its network on the way; null if nothing does.

    Either not one request got as far as an answer, or the last to end got none and the server is still out of reach.
    """
    table = pq.read_table(records, columns=["status", "done_ns", "error"]).sort_by("done_ns")
    statuses, errors = table["status"].to_pylist(), table["error"].to_pylist()
    if not statuses or statuses[-1] not in NO_ANSWER:
        return None
    if set(statuses) == {"connection"}:
        return f"none of {len(statuses)} requests got an answer: {errors[-1]}"
    why = why_unreachable(address)
    return f"no answer any more after {sum(s not in NO_ANSWER for s in statuses)} requests: {why}" if why else None
