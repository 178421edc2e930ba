"""The load process: takes orders from its standard input, one JSON line per load point, and tells its progress on
standard output, one JSON line at a time. It ends when its input ends, also when whoever gave the orders has died.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
import time
import uuid
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, JsonValue

from helpers.config import ClosedLoop, Generation
from helpers.errors import PromptError
from helpers.load.bodies import RequestWriter, prepare_requests
from helpers.load.closed_loop import ClosedLoopLoad, Measured, Progress, Sent
from helpers.load.responses import Answer, read_answer
from helpers.records import LoadPoint, LoadPointFacts, write_requests
from helpers.targets.base import Address

PROGRESS_EVERY_S = 0.25
ECHO_MIN_CHARACTERS = 16
CLOCK_SOURCE = "user"


class Order(BaseModel):
    """One load point to run. Holds secrets (the bearer token): it is piped, never written to a file."""

    model_config = ConfigDict(extra="forbid")
    option: str
    dataset: str
    concurrency: int
    repetition: int
    seed: int
    start_of_prompts: float = 0.0
    """Share of the shuffled prompts at which this load point starts, so that load points share as few as may be."""
    address: Address
    load: ClosedLoop
    generation: Generation
    extra_body: dict[str, JsonValue]
    tokenizer: str
    prompts_file: str
    prompt_tokens_column: str
    output_file: str


def main(place: int) -> None:
    """Serve orders until standard input ends. Load processes that run at once have different places, from 0 on."""
    _stay_on_one_cpu(place)
    orders: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    while (line := orders.get()) is not None:
        run_load_point(Order.model_validate_json(line))
        orders.task_done()


def _stay_on_one_cpu(place: int) -> None:
    """Keep to one CPU: a process that is moved about, or behind a busy neighbour, reads its sockets late."""
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[place % len(cpus)]})


def run_load_point(order: Order) -> None:
    """Run one load point and write its request records."""
    point = LoadPoint(order.option, order.dataset, order.concurrency, order.repetition)
    prompts = pq.read_table(order.prompts_file).to_pandas()
    same_for_all_options = np.random.default_rng([order.seed, *point.dataset.encode()])
    shuffled = same_for_all_options.permutation(len(prompts))
    prompts = prompts.iloc[np.roll(shuffled, -round(order.start_of_prompts * len(prompts)))]
    prepared = prepare_requests(prompts, order.address, order.generation, order.extra_body)
    writer = RequestWriter(order.address)
    id_prefix = uuid.uuid4().hex[:12]  # SageMaker takes inference ids of at most 64 characters
    load = ClosedLoopLoad(order.load, order.concurrency, order.address.url, writer, prepared, id_prefix)
    clock_before = _clock_pair()
    measured = _event_loop_run(load.run(_progress_teller(order)))
    facts = _facts(point, order, measured, [clock_before, _clock_pair()])
    prompts = prompts.set_index("prompt_id")
    rows = [_row(sent, prompts.loc[sent.prompt_id], point, order) for sent in measured.sent]
    write_requests(Path(order.output_file), rows, facts)
    _tell(event="done", load_point=point.id, requests=len(rows), failed=sum(row["status"] != "ok" for row in rows))


def _event_loop_run(coroutine) -> Measured:
    try:
        import uvloop
    except ImportError:  # not available on this platform: the same code on asyncio's own loop
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)


# --- the pipe -----------------------------------------------------------------------------------------------------


def _read_orders(orders: queue.Queue[str | None]) -> None:
    """Queue orders; end the process at once if the pipe closes before all of them are served."""
    for line in sys.stdin:
        orders.put(line)
    if orders.unfinished_tasks:
        os._exit(3)
    orders.put(None)


def _progress_teller(order: Order):
    last = [0.0]

    def tell(progress: Progress) -> None:
        now = time.monotonic()
        if now - last[0] >= PROGRESS_EVERY_S:
            last[0] = now
            _tell(
                event="progress",
                phase=progress.phase,
                sent=progress.sent,
                done=progress.done,
                failed=progress.failed,
                steady=progress.steady_sent,
                wanted=order.load.min_requests,
            )

    return tell


def _tell(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _clock_pair() -> tuple[int, int]:
    """(CLOCK_MONOTONIC, wall clock) at the same moment, ns."""
    return time.monotonic_ns(), time.time_ns()


# --- records ------------------------------------------------------------------------------------------------------


def _facts(point: LoadPoint, order: Order, measured: Measured, clock_pairs: list[tuple[int, int]]) -> LoadPointFacts:
    lags = np.array(measured.loop_lag_ns or [0]) / 1e6
    opened, closed = measured.window_ns or (None, None)
    return LoadPointFacts(
        option=point.option,
        dataset=point.dataset,
        load_point=point.id,
        concurrency=point.concurrency,
        repetition=point.repetition,
        window_open_ns=opened,
        window_close_ns=closed,
        ended_because=measured.ended_because,
        asked_output_tokens=order.generation.max_output_tokens,
        fixed_output_length=order.generation.fixed_output_length,
        loop_lag_ms={
            "p50": float(np.percentile(lags, 50)),
            "p99": float(np.percentile(lags, 99)),
            "max": float(lags.max()),
        },
        load_process_cpu_share=measured.cpu_share,
        clock_pairs=clock_pairs,
    )


def _row(sent: Sent, prompt, point: LoadPoint, order: Order) -> dict:
    exchange = sent.exchange
    answer = read_answer(exchange, order.address.api, order.address.framing)
    echoed = _strip_echo(answer, prompt["rendered"])
    output_source = "server" if answer.output_tokens is not None else None
    if answer.text and (answer.output_tokens is None or echoed):
        answer.output_tokens = _count_tokens(order.tokenizer, answer.text)
        output_source = None if answer.output_tokens is None else "tokenizer"
    prompt_source = "server" if answer.prompt_tokens is not None else "tokenizer"
    return {
        "option": point.option,
        "dataset": point.dataset,
        "load_point": point.id,
        "concurrency": point.concurrency,
        "repetition": point.repetition,
        "request_id": sent.request_id,
        "prompt_id": sent.prompt_id,
        "phase": sent.phase,
        "scheduled_ns": None,
        "sent_ns": exchange.sent_ns,
        "first_byte_ns": answer.first_byte_ns,
        "first_token_ns": answer.first_token_ns,
        "last_token_ns": answer.last_token_ns,
        "done_ns": exchange.done_ns,
        "connect_ns": sent.connect_ns,
        "chunk_ns": answer.chunk_ns,
        "chunk_tokens": answer.chunk_tokens,
        "load_process": 0,
        "clock_source": CLOCK_SOURCE,
        "prompt_tokens": answer.prompt_tokens or int(prompt[order.prompt_tokens_column]),
        "output_tokens": answer.output_tokens,
        "prompt_tokens_source": prompt_source,
        "output_tokens_source": output_source,
        "status": answer.status,
        "http_status": answer.http_status,
        "error_type": answer.error_type,
        "error": answer.error,
        "finish_reason": answer.finish_reason,
        "echoed_prompt": echoed,
    }


def _strip_echo(answer: Answer, rendered: str) -> bool:
    """Remove the prompt from the head of the answer where a server echoes it; true if it did."""
    prompt = rendered.strip()
    if len(prompt) < ECHO_MIN_CHARACTERS or not answer.text.lstrip().startswith(prompt):
        return False
    to_drop = len(answer.text) - len(answer.text.lstrip()) + len(prompt)
    while answer.chunk_texts and to_drop >= len(answer.chunk_texts[0]):
        to_drop -= len(answer.chunk_texts.pop(0))
        answer.chunk_ns.pop(0)
    if answer.chunk_texts:
        answer.chunk_texts[0] = answer.chunk_texts[0][to_drop:]
    answer.chunk_tokens = None
    if answer.first_token_ns is not None:
        answer.first_token_ns = answer.chunk_ns[0] if answer.chunk_ns else None
    return True


@lru_cache(maxsize=4)
def _tokenizer(name: str):
    from helpers.local_sagemaker.tiny_model import default_cache_dir
    from helpers.token_counts import load_tokenizer

    return load_tokenizer(name, default_cache_dir())


def _count_tokens(tokenizer: str, text: str) -> int | None:
    """Tokens of an answer; null where the tokenizer cannot be had, which must not cost the measurement."""
    try:
        return len(_tokenizer(tokenizer).encode(text, add_special_tokens=False))
    except PromptError as error:
        sys.stderr.write(f"output tokens are unknown: {error}\n")
        return None
