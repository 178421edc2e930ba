"""The batch: requests are admitted, computed step by step and delivered. Counts are in tokens, requests and KV blocks.

Everything runs on the event loop, alternating with I/O: OpenVINO GenAI's `step` holds the GIL while it computes, so a
separate thread would not run in parallel, only compete with the event loop for the GIL.
"""

import asyncio
import itertools
import os
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
import openvino_genai

from local_sagemaker.engine.errors import BadRequest, GenerationFailed
from local_sagemaker.engine.metrics import EngineMetrics
from local_sagemaker.engine.model_file import GgufMetadata, token_bytes
from local_sagemaker.engine.prefix_cache import PrefixCache
from local_sagemaker.engine.request_bodies import GenerationRequest
from local_sagemaker.engine.settings import EngineSettings

KV_BLOCK_TOKENS = 32
"""Size of one KV cache block of OpenVINO GenAI on CPU."""

TURNS_BETWEEN_STEPS = 4
"""Event-loop turns between two steps: enough to write all tokens, and to read and admit requests that arrived meanwhile.
An idle turn takes a few microseconds."""

SMALLEST_TOP_P = 1e-6
"""Replaces a top_p of 0, which OpenVINO GenAI refuses; both leave only the likeliest token."""


@dataclass(frozen=True)
class Tokens:
    """What one engine step produced for one request; `finish_reason` is None until the last step."""

    ids: list[int]
    finish_reason: str | None


class Job:
    """One request inside the engine."""

    def __init__(self, job_id: int, input_ids: openvino.Tensor, config: openvino_genai.GenerationConfig) -> None:
        self.job_id = job_id
        self.input_ids = input_ids
        self.config = config
        self.results: asyncio.Queue[Tokens | GenerationFailed] = asyncio.Queue()
        self.cancelled = False
        self.cached_tokens: int | None = None
        """Tokens of the prompt that the prefix cache held; None until it is admitted, and without such a cache."""
        self.tokens: list[int] = []
        """Prompt and answer so far, where there is a prefix cache."""

    @property
    def most_tokens(self) -> int:
        """Of prompt and answer."""
        return int(self.input_ids.shape[1]) + int(self.config.max_new_tokens)


class Engine:
    """The continuous-batching pipeline and the requests in it."""

    def __init__(self, settings: EngineSettings) -> None:
        self.model_name = settings.model_path.parent.name
        self.reasoning_tokens = settings.reasoning_tokens
        self._pipeline = _load_pipeline(settings)
        self.tokenizer = self._pipeline.get_tokenizer()
        metadata = GgufMetadata(settings.model_path)
        self.context_tokens = min(metadata.context_tokens, settings.num_kv_blocks * KV_BLOCK_TOKENS)
        self.token_bytes = token_bytes(self.tokenizer.get_vocab(), metadata.control_tokens)
        self._eos = self.tokenizer.get_eos_token_id()
        self._job_ids = itertools.count()
        self._work = asyncio.Event()
        self._max_live_jobs = settings.max_num_seqs
        self._waiting_jobs: deque[Job] = deque()
        self._live: dict[Job, Any] = {}
        self._prefix_cache = PrefixCache(settings.num_kv_blocks, KV_BLOCK_TOKENS) if settings.prefix_caching else None
        self._run_task: asyncio.Task[None] | None = None
        self.metrics = EngineMetrics()
        self.metrics.watch(
            running=lambda: len(self._live),
            waiting=lambda: sum(not job.cancelled for job in self._waiting_jobs),
            kv_cache_usage=lambda: self._pipeline.get_metrics().cache_usage / 100 if self._live else 0.0,
            has_prefix_cache=settings.prefix_caching,
        )

    def start(self) -> None:
        """Starts computing on the running event loop."""
        self._run_task = asyncio.get_running_loop().create_task(self._run(), name="scheduler")
        self._run_task.add_done_callback(_exit_if_failed)

    def encode(self, request: GenerationRequest) -> openvino.Tensor:
        """The prompt as token ids, shape (1, prompt tokens); raises `BadRequest` for ids that do not exist."""
        text = request.prompt
        if request.chat:
            text = self.tokenizer.apply_chat_template(request.prompt, add_generation_prompt=True)
        elif isinstance(text, list):
            return openvino.Tensor(_as_row(text, len(self.token_bytes)))
        return self.tokenizer.encode(text, add_special_tokens=False).input_ids

    def submit(self, request: GenerationRequest, input_ids: openvino.Tensor) -> Job:
        """Queues a request; raises `BadRequest` when prompt and answer do not fit into the context."""
        job = Job(next(self._job_ids), input_ids, self._generation_config(request, input_ids.shape[1]))
        self._waiting_jobs.append(job)
        self._work.set()
        return job

    def cancel(self, job: Job) -> None:
        """Frees the request's slot in the batch; has no effect once it has ended."""
        job.cancelled = True

    def _generation_config(self, request: GenerationRequest, prompt_tokens: int) -> openvino_genai.GenerationConfig:
        room = self.context_tokens - prompt_tokens
        max_tokens = room if request.max_tokens is None else request.max_tokens
        if room < 1 or max_tokens > room:
            raise BadRequest(
                f"the prompt has {prompt_tokens} tokens and max_tokens is {request.max_tokens}, more than this "
                f"model's context of {self.context_tokens} tokens; shorten the prompt or lower max_tokens"
            )
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = max_tokens
        config.min_new_tokens = min(request.min_tokens, max_tokens)
        config.ignore_eos = request.ignore_eos
        config.eos_token_id = self._eos
        config.stop_token_ids = {self._eos}
        config.do_sample = request.temperature > 0
        if config.do_sample:
            config.temperature = request.temperature
            config.rng_seed = request.seed
            if request.top_p < 1:
                config.top_p = max(request.top_p, SMALLEST_TOP_P)
            if request.top_k > 0:
                config.top_k = request.top_k
        return config

    async def _run(self) -> None:
        """Admits, steps and delivers forever."""
        while True:
            await self._work.wait()
            self._admit()
            if self._pipeline.has_non_finished_requests():
                self._pipeline.step()
            self._deliver()
            if not self._live and not self._waiting_jobs:
                self._work.clear()
            for _ in range(TURNS_BETWEEN_STEPS):
                await asyncio.sleep(0)

    def _admit(self) -> None:
        """Fills the batch, first come first served. With split-fuse the pipeline itself ignores `max_num_seqs`."""
        while self._waiting_jobs and len(self._live) < self._max_live_jobs:
            job = self._waiting_jobs.popleft()
            if job.cancelled:
                continue
            if self._prefix_cache is not None:
                job.tokens = job.input_ids.data[0].tolist()
                job.cached_tokens = self._prefix_cache.admit(job.tokens, job.most_tokens)
                self.metrics.prefix_queries += len(job.tokens)
                self.metrics.prefix_hits += job.cached_tokens
            self._live[job] = self._pipeline.add_request(job.job_id, job.input_ids, job.config)

    def _deliver(self) -> None:
        """Delivers this step's tokens to each request."""
        for job, handle in list(self._live.items()):
            if job.cancelled:
                handle.cancel()
                del self._live[job]
                self._note_end(job, broken_off=True)
                continue
            result = _read(handle)
            if result is not None:
                self._note(job, result)
                job.results.put_nowait(result)
                if isinstance(result, GenerationFailed) or result.finish_reason:
                    del self._live[job]

    def _note(self, job: Job, result: Tokens | GenerationFailed) -> None:
        """Enters in the account of the prefix cache what a step computed."""
        if self._prefix_cache is None:
            return
        if isinstance(result, GenerationFailed):
            self._note_end(job, broken_off=True)
            return
        is_first = len(job.tokens) == job.input_ids.shape[1]
        job.tokens += result.ids
        if result.finish_reason:
            self._note_end(job, broken_off=False)
            self._prefix_cache.enter(
                job.tokens[:-1], ended=True
            )  # nothing has followed the last token, so it is not in
        elif is_first:
            self._prefix_cache.enter(job.tokens[: job.input_ids.shape[1]], ended=False)

    def _note_end(self, job: Job, broken_off: bool) -> None:
        if self._prefix_cache is not None:
            self._prefix_cache.release(job.most_tokens, broken_off)


def _exit_if_failed(run: asyncio.Task[None]) -> None:
    """Exits the process on an engine error, because there is no way to recover."""
    if not run.cancelled() and (error := run.exception()) is not None:
        print(f"engine stopped: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)


def _load_pipeline(settings: EngineSettings) -> openvino_genai.ContinuousBatchingPipeline:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = settings.max_num_seqs
    scheduler.max_num_batched_tokens = settings.max_num_batched_tokens
    scheduler.num_kv_blocks = settings.num_kv_blocks
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = settings.prefix_caching
    # The process is pinned as a whole. Without the hint a CPU with AMX computes in bfloat16, which gives other answers than
    # elsewhere, and divides by zero with one thread (openvinotoolkit/openvino issue 33300).
    properties: dict[str, Any] = {"ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}
    if settings.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = settings.threads
    return openvino_genai.ContinuousBatchingPipeline(str(settings.model_path), scheduler, "CPU", properties)


def _read(handle: Any) -> Tokens | GenerationFailed | None:
    """What the engine has ready for one request; None if nothing yet."""
    ids: list[int] = []
    finish_reason = openvino_genai.GenerationFinishReason.NONE
    while handle.can_read():
        for output in handle.read().values():
            ids += output.generated_ids
            finish_reason = output.finish_reason
    if finish_reason == openvino_genai.GenerationFinishReason.LENGTH:
        return Tokens(ids, "length")
    if finish_reason != openvino_genai.GenerationFinishReason.NONE:
        return Tokens(ids, "stop")
    if handle.get_status() != openvino_genai.GenerationStatus.RUNNING and not handle.can_read():
        return GenerationFailed(
            f"the engine dropped the request ({handle.get_status().name}): its KV cache is too small for it; "
            "raise ENGINE_NUM_KV_BLOCKS"
        )
    return Tokens(ids, None) if ids else None


def _as_row(token_ids: list[Any], vocabulary_size: int) -> Any:
    for token in token_ids:
        if not 0 <= token < vocabulary_size:
            raise BadRequest(f"prompt holds token id {token}, expected ids from 0 to {vocabulary_size - 1}")
    return np.array([token_ids], dtype=np.int64)
