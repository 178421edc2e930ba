"""What the engine says its prefix cache held, against the steps that OpenVINO GenAI took, one token each."""

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
import pytest

from local_sagemaker.engine.answers import Answer
from local_sagemaker.engine.prefix_cache import PrefixCache
from local_sagemaker.engine.request_bodies import read_request
from local_sagemaker.engine.scheduler import KV_BLOCK_TOKENS, Engine
from local_sagemaker.engine.settings import read_settings
from local_sagemaker.event_loop import new_event_loop

pytest_plugins = ["local_sagemaker_fixtures"]

ANSWER_TOKENS, BLOCKS = 4, 256


def prompts() -> list[list[int]]:
    """Prompts that share beginnings of three lengths, continue earlier ones, or repeat them."""
    chance = random.Random(3)
    beginnings = [[chance.randrange(10, 500) for _ in range(length)] for length in (40, 64, 110)]
    made = []
    for _ in range(9):
        begin = chance.choice([*beginnings, *made[-3:]])
        made.append(begin + [chance.randrange(10, 500) for _ in range(chance.choice([0, 5, 32, 60]))])
    return made


def pipeline(model_folder: Path) -> Any:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_batched_tokens, scheduler.num_kv_blocks = 1, BLOCKS
    scheduler.dynamic_split_fuse = scheduler.enable_prefix_caching = True
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    return openvino_genai.ContinuousBatchingPipeline(str(model_folder / "model.gguf"), scheduler, "CPU", properties)


def test_the_account_of_the_prefix_cache_is_that_of_the_engine(model_folder: Path) -> None:
    """Request by request, while nothing is overwritten."""
    engine, cache, accounted, computed = pipeline(model_folder), PrefixCache(BLOCKS, KV_BLOCK_TOKENS), [], []
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = ANSWER_TOKENS
    config.ignore_eos = True
    for number, prompt in enumerate(prompts()):
        room = len(prompt) + ANSWER_TOKENS
        accounted.append(cache.admit(prompt, room))
        handle = engine.add_request(number, openvino.Tensor(np.array([prompt])), config)
        answer: list[int] = []
        steps = 0
        while engine.has_non_finished_requests():
            engine.step()
            steps += not answer
            while handle.can_read():
                answer += next(iter(handle.read().values())).generated_ids
        computed.append(len(prompt) - steps)
        cache.release(room)
        cache.enter(prompt + answer[:-1], ended=True)
    assert sum(computed) > 200
    assert accounted == computed


class CountedSteps:
    """A pipeline that counts its steps."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        self._pipeline.step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


@pytest.mark.parametrize(("blocks", "is_exact"), [(BLOCKS, True), (24, False)])
def test_what_is_reported_of_requests_at_once_was_not_computed(model_folder: Path, blocks: int, is_exact: bool) -> None:
    """Over all requests; where blocks are overwritten the account may be less than the truth, but is never more."""

    async def serve() -> tuple[int, int]:
        environment = {"ENGINE_MODEL": str(model_folder), "ENGINE_THREADS": "1", "ENGINE_PREFIX_CACHING": "true"}
        environment |= {"ENGINE_MAX_NUM_SEQS": "3", "ENGINE_MAX_NUM_BATCHED_TOKENS": "1"}
        engine = Engine(read_settings({**environment, "ENGINE_NUM_KV_BLOCKS": str(blocks)}))
        counted = engine._pipeline = CountedSteps(engine._pipeline)
        engine.start()
        waiting, usages = prompts(), []

        async def client() -> None:
            while waiting:
                body = {"prompt": waiting.pop(), "max_tokens": ANSWER_TOKENS, "ignore_eos": True}
                answer = Answer(engine, read_request(body, chat=False, default_model="m", always_usage=True))
                assert [piece async for piece in answer.pieces()]
                usages.append(answer.usage())

        await asyncio.gather(*(client() for _ in range(4)))
        found = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
        tokens = sum(usage["prompt_tokens"] + usage["completion_tokens"] - 1 for usage in usages)
        return found, tokens - counted.steps

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        found, not_computed = runner.run(serve())
    assert not_computed > 100
    assert found == not_computed if is_exact else 0 < found <= not_computed


def test_what_waits_and_what_was_broken_off_is_not_found() -> None:
    cache = PrefixCache(blocks=8, block_tokens=2)
    assert cache.admit([1, 2, 3, 4, 5], 6) == 0
    assert cache.admit([1, 2, 3, 4, 6], 6) == 0, "the first one is not computed yet"
    cache.enter([1, 2, 3, 4, 5], ended=False)
    cache.release(6, broken_off=True)
    cache.release(6)
    assert cache.admit([1, 2, 3, 4], 4) == 3, "the last token is always computed"
    cache.release(4)
    assert cache.admit([7] * 15, 16) == 0
    assert cache.admit([1, 2, 3, 4], 4) == 0, "its blocks are overwritten"
