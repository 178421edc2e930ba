"""`GET /metrics`: what the engine does, in Prometheus' text format under the names that vLLM gives to the same quantities.

OpenVINO GenAI reports no preemptions, so there is no `vllm:num_preemptions_total`. Latency is in seconds, the rest in requests,
tokens, shares and CPU seconds. Names: https://docs.vllm.ai/en/latest/usage/metrics/
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric

from local_sagemaker.engine.cores import allowed_cpus

BUCKETS_S = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)


class EngineMetrics:
    """The counts of one engine. Gauges are read when somebody asks for them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("engine_cpu_cores", "Cores that the engine may use.", registry=registry).set_function(
            lambda: len(allowed_cpus())
        )
        self.prompt_tokens = Counter("vllm:prompt_tokens", "Prompt tokens processed.", registry=registry)
        self.generation_tokens = Counter("vllm:generation_tokens", "Tokens generated.", registry=registry)
        self.ended = Counter("vllm:request_success", "Requests that ended.", ["finished_reason"], registry=registry)
        for reason in ("stop", "length", "abort"):
            self.ended.labels(reason)
        self.latency_s = Histogram(
            "vllm:e2e_request_latency_seconds",
            "From the arrival of a request to its last token.",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.prefix_queries = self.prefix_hits = 0
        """Tokens asked of the prefix cache, and found."""

    def watch(
        self,
        running: Callable[[], int],
        waiting: Callable[[], int],
        kv_cache_usage: Callable[[], float],
        has_prefix_cache: bool,
    ) -> None:
        """From now on the gauges are what these return."""
        for name, words, read in (
            ("vllm:num_requests_running", "Requests in the batch.", running),
            ("vllm:num_requests_waiting", "Requests that wait for a place in the batch.", waiting),
            ("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", kv_cache_usage),
            ("vllm:gpu_cache_usage_perc", "The same by its older name.", kv_cache_usage),
        ):
            Gauge(name, words, registry=self.registry).set_function(read)
        if has_prefix_cache:
            self.registry.register(_PrefixCacheCounts(self))


class _PrefixCacheCounts:
    def __init__(self, metrics: EngineMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The two counters; absent, not 0, without a prefix cache."""
        yield CounterMetricFamily("vllm:prefix_cache_queries", "Tokens asked.", self._metrics.prefix_queries)
        yield CounterMetricFamily("vllm:prefix_cache_hits", "Tokens found.", self._metrics.prefix_hits)
