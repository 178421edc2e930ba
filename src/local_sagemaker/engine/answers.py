"""One answer in progress: the scheduler's tokens become pieces of text. Counts are in tokens."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from local_sagemaker.engine.errors import GenerationFailed
from local_sagemaker.engine.request_bodies import GenerationRequest
from local_sagemaker.engine.scheduler import Engine
from local_sagemaker.engine.text_decoding import StopTexts, StreamingDetokenizer


@dataclass
class Piece:
    """Text that is ready to be shown and, on the last piece, why the answer ended."""

    text: str
    finish_reason: str | None
    is_reasoning: bool = False


class Answer:
    """One request in progress: an async iterator of pieces, and the token counts."""

    def __init__(self, engine: Engine, request: GenerationRequest) -> None:
        input_ids = engine.encode(request)
        self.prompt_tokens: int = input_ids.shape[1]
        self.completion_tokens = 0
        self._engine = engine
        self._request = request
        self._job = engine.submit(request, input_ids)
        self._most_reasoning = engine.reasoning_tokens if request.chat else 0
        self._began_s = time.monotonic()
        self._has_ended = False

    async def pieces(self) -> AsyncIterator[Piece]:
        """One piece per engine step that produced text; the last one has a finish reason."""
        detokenizer = StreamingDetokenizer(self._engine.token_bytes)
        stop_texts = StopTexts(self._request.stop)
        metrics = self._engine.metrics
        while True:
            tokens = await self._job.results.get()
            if isinstance(tokens, GenerationFailed):
                raise tokens
            reasons = self.completion_tokens < self._most_reasoning
            if not self.completion_tokens:
                metrics.prompt_tokens.inc(self.prompt_tokens)
            self.completion_tokens += len(tokens.ids)
            metrics.generation_tokens.inc(len(tokens.ids))
            text, stopped = detokenizer.add(tokens.ids), False
            if tokens.finish_reason is not None:
                text += detokenizer.finish()
            if self.completion_tokens >= self._request.min_tokens:
                text, stopped = stop_texts.add(text)
            if stopped:
                self._note_end("stop")
                self.cancel()
                yield Piece(text, "stop", reasons)
                return
            if tokens.finish_reason is not None:
                self._note_end(tokens.finish_reason)
                yield Piece(text + stop_texts.finish(), tokens.finish_reason, reasons)
                return
            if text:
                yield Piece(text, None, reasons)

    def cancel(self) -> None:
        """Frees its slot in the batch; has no effect once the answer has ended."""
        self._note_end("abort")
        self._engine.cancel(self._job)

    def _note_end(self, reason: str) -> None:
        """Counts the request, once."""
        if self._has_ended:
            return
        self._has_ended = True
        self._engine.metrics.ended.labels(reason).inc()
        if reason != "abort":
            self._engine.metrics.latency_s.observe(time.monotonic() - self._began_s)

    def usage(self) -> dict[str, Any]:
        """The token counts so far, as OpenAI names them; with a prefix cache also what of the prompt it held."""
        reasoning = min(self.completion_tokens, self._most_reasoning)
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            **({"completion_tokens_details": {"reasoning_tokens": reasoning}} if self._most_reasoning else {}),
        }
        if self._job.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self._job.cached_tokens}
        return usage
