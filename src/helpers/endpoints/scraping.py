"""Asks a server for its `/metrics` about once a second while it is loaded, in a thread of the process that sends nothing.

A server that stops answering is said once. Nothing of it ever stops a load, or delays one by more than a few seconds.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from helpers.config.api_url import basic_credentials, below, without_user
from helpers.config.options import OpenAIOption, OptionBase, SageMakerOption
from helpers.endpoints.prometheus import NOT_OF_A_MODEL, TIMEOUT_S, NoMetrics, fetch_metrics
from helpers.load.address import Address, SigV4
from helpers.run.folder import RunFolder
from helpers.run.remote import say_once
from helpers.run.server_samples import FOLDER, PROMETHEUS, Sample, write_samples
from helpers.run.sessions import session_of_profile

EVERY_S = 1.0
MOST_FAILURES = 3
"""A page that fails so often in a row is not asked for again at this visit. A machine may stand still for a moment."""


class Scraper:
    """The `/metrics` of one option's server, during one visit. Does nothing for options without one."""

    def __init__(self, option: OptionBase, address: Address, run: RunFolder) -> None:
        """Ask once. Where the config names no `metrics_url`, and there is none beside the API, that is no fault. Endpoints of AWS
        have none; those of the local SageMaker show that of their model server.
        """
        self._option, self._run = option, run
        self._failures = 0
        self._trouble = "it has none of the quantities that docs/metrics.md lists"
        self._url = ""
        named, self._ca_file = None, None
        if isinstance(option, OpenAIOption):
            named = option.metrics_url
            self._url, headers, self._ca_file = _page_of(option, address)
            self._headers: Callable[[], dict[str, str]] = lambda: headers
        elif isinstance(option, SageMakerOption) and option.local and address.sigv4 is not None:
            self._url = f"{re.match('.*?/endpoints/[^/]+', address.url)[0]}/metrics"
            self._headers = _signer(self._url, address.sigv4)
        else:
            return
        with self._watched(once=True) as first:
            pass
        if not first and named is None:
            self._url = ""
        elif not first:
            self._failures = MOST_FAILURES
            self._say()

    @contextmanager
    def attempt(self, load_point: str) -> Iterator[None]:
        """While this lasts the page is read; what it said is then in a file, and why there is not more."""
        samples: list[Sample] = []
        if self._url and self._failures < MOST_FAILURES:
            with self._watched() as samples:
                yield
            if self._failures >= MOST_FAILURES:
                self._say()
        else:
            yield
        if self._url:
            path = self._run.folder(FOLDER) / f"{load_point}.parquet"
            write_samples(path, list(samples), self._trouble if self._failures >= MOST_FAILURES else None)

    @contextmanager
    def _watched(self, once: bool = False) -> Iterator[list[Sample]]:
        """The samples so far: the first before the block begins, the last after it has ended, if the server answers in time."""
        samples: list[Sample] = []
        begun, ended = threading.Event(), threading.Event()

        def watch() -> None:
            while True:
                is_last = ended.is_set()
                self._scrape(samples)
                begun.set()
                if once or self._failures >= MOST_FAILURES or (is_last and not self._failures):
                    return
                ended.wait(EVERY_S)

        thread = threading.Thread(target=watch, name="metrics", daemon=True)
        thread.start()
        begun.wait(2 * TIMEOUT_S)
        try:
            yield samples
        finally:
            ended.set()
            thread.join((1 + MOST_FAILURES) * TIMEOUT_S)
            if thread.is_alive():  # a server that sends one byte at a time
                self._failures, self._trouble = MOST_FAILURES, "it did not end"

    def _scrape(self, samples: list[Sample]) -> None:
        before_ns = time.monotonic_ns()
        try:
            found = fetch_metrics(self._url, self._headers(), self._ca_file)
        except NoMetrics as error:
            self._failures += 1
            self._trouble = str(error)
            return
        self._failures = 0
        at_ns = (before_ns + time.monotonic_ns()) // 2
        if found.keys() - set(NOT_OF_A_MODEL):
            samples += [Sample(at_ns, name, value, None, PROMETHEUS) for name, value in found.items()]

    def _say(self) -> None:
        say_once(
            self._run.path / self._option.name,
            f"Warning: option {self._option.name!r}: {_shown(self._url)} was not read throughout: {self._trouble}. What "
            "limits the server may stay unknown; the measurement itself is not affected. Next: check metrics_url, or "
            "have the server expose /metrics (for example --enable-metrics of SGLang)",
        )


def _page_of(option: OpenAIOption, address: Address) -> tuple[str, dict[str, str], str | None]:
    """The URL of the page, the headers that it gets, and whom to trust: as the API's only on the server of the API."""
    url, user = without_user(option.metrics_url or _beside(option.base_url))
    headers, ca_file = {}, None
    if _origin(url) == _origin(address.url):
        ca_file = address.ca_file
        headers = {**address.headers, **({"Authorization": address.authorization} if address.authorization else {})}
    if user is not None:
        headers = {**headers, "Authorization": f"Basic {basic_credentials(user)}"}
    return url, headers, ca_file


def _signer(url: str, sigv4: SigV4) -> Callable[[], dict[str, str]]:
    """Gives the headers of a GET that is signed at this moment."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    credentials = session_of_profile(sigv4.profile, sigv4.config_file, sigv4.region).get_credentials()

    def headers() -> dict[str, str]:
        request = AWSRequest("GET", url)
        SigV4Auth(credentials, sigv4.service, sigv4.region).add_auth(request)
        return dict(request.headers)

    return headers


def _beside(base_url: str) -> str:
    """`/metrics` beside the API's root: http://host/v1 has it at http://host/metrics."""
    parts = urlsplit(base_url)
    return below(parts._replace(path=parts.path.rstrip("/").removesuffix("/v1"), query="").geturl(), "/metrics")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower().rpartition("@")[2]


def _shown(url: str) -> str:
    """Without a query, which may hold a secret."""
    return urlsplit(url)._replace(query="").geturl()
