"""What the engine says its prefix cache held, against the steps that OpenVINO GenAI took, one token each."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
import pytest

from local_sagemaker.engine.prefix_cache import PrefixCache
from local_sagemaker.engine.scheduler import KV_BLOCK_TOKENS

pytest_plugins = ["local_sagemaker_fixtures"]

ANSWER_TOKENS = 6


def prompts() -> list[list[int]]:
    """Prompts that share beginnings of three lengths, continue earlier ones, or repeat them."""
    chance = random.Random(3)
    beginnings = [[chance.randrange(10, 500) for _ in range(length)] for length in (40, 64, 110)]
    made = []
    for _ in range(12):
        begin = chance.choice([*beginnings, *made[-3:]])
        made.append(begin + [chance.randrange(10, 500) for _ in range(chance.choice([0, 5, 32, 60]))])
    return made


def pipeline(model_folder: Path, blocks: int) -> Any:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_batched_tokens, scheduler.num_kv_blocks = 1, blocks
    scheduler.dynamic_split_fuse = scheduler.enable_prefix_caching = True
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    return openvino_genai.ContinuousBatchingPipeline(str(model_folder / "model.gguf"), scheduler, "CPU", properties)


@pytest.mark.parametrize("blocks", [256, 14])
def test_the_account_of_the_prefix_cache_is_that_of_the_engine(model_folder: Path, blocks: int) -> None:
    """Where there is room it is exact; where blocks are overwritten it may be less, but is never more."""
    engine, cache, accounted, computed = pipeline(model_folder, blocks), PrefixCache(blocks, KV_BLOCK_TOKENS), [], []
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
    if blocks == 256:
        assert accounted == computed
    else:
        assert all(mine <= real for mine, real in zip(accounted, computed, strict=True))
        assert accounted != computed or sum(accounted) > 0


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
