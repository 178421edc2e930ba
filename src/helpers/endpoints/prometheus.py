"""`/metrics` of model servers: reading it from a stranger, and one name for what each server calls by its own.

Sources of the names: https://docs.vllm.ai/en/latest/usage/metrics/ (and v0.5.5 for the older ones),
https://docs.sglang.io/references/production_metrics.html,
https://huggingface.co/docs/text-generation-inference/reference/metrics.
"""

from __future__ import annotations

import math
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

NAMES = {
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs", "tgi_batch_current_size"),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size"),
    "kv_cache": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"),
    "preemptions": ("vllm:num_preemptions_total", "sglang:num_retracted_requests_total"),
    "requests": ("vllm:request_success_total", "sglang:num_requests_total", "tgi_request_success"),
    "prompt_tokens": ("vllm:prompt_tokens_total", "sglang:prompt_tokens_total", "tgi_request_input_length_sum"),
    "output_tokens": (
        "vllm:generation_tokens_total",
        "sglang:generation_tokens_total",
        "tgi_request_generated_tokens_sum",
    ),
    "prefix_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "prefix_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total", "sglang:cached_tokens_total"),
    "latency_sum_s": (
        "vllm:e2e_request_latency_seconds_sum",
        "sglang:e2e_request_latency_seconds_sum",
        "tgi_request_duration_sum",
    ),
    "latency_count": (
        "vllm:e2e_request_latency_seconds_count",
        "sglang:e2e_request_latency_seconds_count",
        "tgi_request_duration_count",
    ),
    "drafts": ("vllm:spec_decode_num_drafts_total",),
    "accepted_tokens": ("vllm:spec_decode_num_accepted_tokens_total",),
    "draft_tokens": ("vllm:spec_decode_num_draft_tokens_total",),
    "acceptance_length": ("sglang:spec_accept_length",),
    "cpu_s": ("process_cpu_seconds_total",),
    "cpu_cores": ("engine_cpu_cores",),
}
"""Our name -> the servers' names, of which the first that there is counts."""
OF_THE_FULLEST = ("kv_cache", "acceptance_length")
"""Of several engines behind one page the largest value counts; the others are sums."""
NOT_OF_A_MODEL = ("cpu_s", "cpu_cores")
"""A page that has only these is not that of a model server."""
UNFINISHED = ("abort", "error")
"""Values of vLLM's label `finished_reason` of requests that were not answered."""
_OURS = {theirs: ours for ours, names in NAMES.items() for theirs in names}
_LINE = re.compile(rf"^(?:{'|'.join(map(re.escape, _OURS))})[ \t{{].*$", re.MULTILINE)
TIMEOUT_S = 2.0
MOST_BYTES = 4 * 1024 * 1024
MOST_LINES = 2000
PIECE = 64 * 1024


class NoMetrics(Exception):
    """Why a page could not be read, in words that hold no secret and nothing that the server said."""


def read_metrics(page: str) -> dict[str, float]:
    """Our names and values of a page in Prometheus' text format; those that are not finite are left out.

    Raises NoMetrics where the lines that matter cannot be read, or are far too many.
    """
    from prometheus_client.parser import text_string_to_metric_families

    lines = _LINE.findall(page)
    if len(lines) > MOST_LINES:
        raise NoMetrics(f"it has {len(lines):,} lines of these quantities, expected at most {MOST_LINES:,}")
    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families("".join(f"{line.rstrip()}\n" for line in lines)):
            for sample in family.samples:
                if math.isfinite(sample.value) and sample.labels.get("finished_reason") not in UNFINISHED:
                    found.setdefault(sample.name, []).append(float(sample.value))
    except Exception as error:  # noqa: BLE001 (whatever the page of a stranger does to the parser, the load goes on)
        raise NoMetrics(f"it is not Prometheus' text format ({type(error).__name__})") from None
    values = {}
    for ours, names in NAMES.items():
        here = next((found[theirs] for theirs in names if theirs in found), None)
        if here is not None:
            values[ours] = max(here) if ours in OF_THE_FULLEST else math.fsum(here)
    return values


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere, with the headers of this request."""

    def redirect_request(self, *_: object) -> None:
        return None


def fetch_metrics(url: str, headers: Mapping[str, str], ca_file: str | None) -> dict[str, float]:
    """Read a page and its values. Raises NoMetrics. Waits `TIMEOUT_S` for each piece, and for all pieces of the body together."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
    if ca_file is not None:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
    deadline, body = time.monotonic() + TIMEOUT_S, bytearray()
    try:
        request = urllib.request.Request(url, headers=dict(headers))
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as answer:
            while piece := answer.read1(PIECE):
                body += piece
                if len(body) > MOST_BYTES:
                    raise NoMetrics(f"it is larger than {MOST_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise NoMetrics(f"it did not end within {TIMEOUT_S:g} s")
    except NoMetrics:
        raise
    except urllib.error.HTTPError as error:
        raise NoMetrics(f"it answered HTTP {error.code}") from None
    except urllib.error.URLError as error:
        raise NoMetrics(f"it was not reached ({type(error.reason).__name__})") from None
    except Exception as error:  # noqa: BLE001 (a server may break off in any way)
        raise NoMetrics(f"it was not read ({type(error).__name__})") from None
    return read_metrics(body.decode("utf-8", "replace"))
