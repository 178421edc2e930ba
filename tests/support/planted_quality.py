"""Options whose answers are right with a known probability, alike by prompt: answers, scores, and a server that gives them."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import sys
import time

import numpy as np
import pandas as pd
from scipy import stats

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.quality import quality_of

ALIKE = 0.6
"""Share of the variance of what makes an answer right that is the prompt's."""
BY = 0.08
PROMPTS = 200
SAMPLES = 80
"""Of the run of `quality_fixtures`."""
LOADED_TOKEN_S = 0.03
"""Long against what a busy machine adds, so that the load generator is not taken for the limit."""


def planted_scores(rng: np.random.Generator, means: dict[str, float], scorer: str) -> dict[str, pd.DataFrame]:
    """Scored answers of each option: right or wrong, or (token_f1) shares of what is right, with these means."""
    n, found = PROMPTS, {}
    prompt = rng.standard_normal(n)
    for option, mean in means.items():
        rank = stats.norm.cdf(np.sqrt(ALIKE) * prompt + np.sqrt(1 - ALIKE) * rng.standard_normal(n))
        score = (
            (rank < mean).astype(float)
            if scorer == "exact_match"
            else stats.beta.ppf(1 - rank, 4 * mean, 4 * (1 - mean))
        )
        columns = {"dataset": "d", "prompt_id": [f"p{i}" for i in range(n)], "status": "ok", "finish_reason": "stop"}
        found[option] = pd.DataFrame({**columns, "output_tokens": 5, "score": score})
    return found


def gated_config(scorer: str, gate: dict, options: int = 3, confidence: float = 0.95) -> BenchmarkConfig:
    """A config of options named o0, o1, ..., of which the gate is judged."""
    each = {"target": "openai", "base_url": "http://127.0.0.1:1/v1", "served_model": "m"}
    return BenchmarkConfig.model_validate(
        {
            "name": "planted",
            "model": {"name": "m", "tokenizer": "synthetic:2m", "context_tokens": 2048},
            "prompts": {"source": {"kind": "jsonl", "path": "x.jsonl"}},
            "datasets": [{"name": "d", "prompt_tokens": [1, 100]}],
            "generation": {"max_output_tokens": 8},
            "options": [{**each, "name": f"o{i}"} for i in range(options)],
            "load": {"kind": "closed_loop", "concurrency": [1]},
            "slo": {"latency_s": 5, "confidence": confidence},
            "traffic": {"requests_per_minute": 10},
            "quality": {"scorer": scorer, "samples": PROMPTS, "gate": gate},
        }
    )


def campaigns(scorer: str, count: int, seed: int) -> dict[str, float]:
    """How often gates and intervals are right, over simulated campaigns of three options: shares of the campaigns.

    o0 is compared with; of o1 and o2 both are worse by a multiple of `by`, and one of them passing (or being refused) counts.
    """
    config = gated_config(scorer, {"not_worse_than": {"option": "o0", "by": BY}})
    least = gated_config(scorer, {"min_score": 0.8})
    rng = np.random.default_rng(seed)
    found: dict[str, list[bool]] = {}

    def note(name: str, is_so: bool) -> None:
        found.setdefault(name, []).append(bool(is_so))

    for _ in range(count):
        for words, times in (("equal", 0), ("worse by by", 1), ("worse by 2 x by", 2)):
            scores = planted_scores(rng, {"o0": 0.8, "o1": 0.8 - times * BY, "o2": 0.8 - times * BY}, scorer)
            judged = [quality_of(option, scores, PROMPTS, config) for option in ("o1", "o2")]
            note(f"{words}: passed", any(one.gate == "passed" for one in judged))
            note(f"{words}: refused", any(one.gate == "failed" for one in judged))
            truth = -times * BY
            note("interval of the score", judged[0].low <= 0.8 + truth <= judged[0].high)
            note("interval of the difference", judged[0].difference_low <= truth <= judged[0].difference_high)
        scores = planted_scores(rng, dict.fromkeys(("o0", "o1", "o2"), 0.8), scorer)
        judged = [quality_of(option, scores, PROMPTS, least) for option in scores]
        note("at min_score: refused", any(one.gate == "failed" for one in judged))
        note("at min_score: passed", any(one.gate == "passed" for one in judged))
    return {name: float(np.mean(cases)) for name, cases in found.items()}


def judgement(asked: str, model: str) -> str:
    """What a judge says of two sums: `judge-honest` prefers the right one, `judge-first` the first, whatever it is, and
    `judge-mute` gives no verdict.
    """
    question = re.search(r"<question>\s*(.*?)\s*</question>", asked, re.DOTALL)[1]
    sums = [int(re.sub(r"\D", "", re.search(rf"<answer_{i}>(.*?)</answer_{i}>", asked, re.DOTALL)[1])) for i in (1, 2)]
    is_right = [total == sum(map(int, re.findall(r"\d+", question))) for total in sums]
    honest = "equal" if is_right[0] == is_right[1] else "1" if is_right[0] else "2"
    said = {"judge-honest": f"Verdict: {honest}", "judge-first": "Verdict: 1", "judge-mute": "Well, well."}[model]
    return f"Both say a number. {said}"


# --- a server -----------------------------------------------------------------------------------------------------


def is_right(question: str, model: str) -> bool:
    """Whether a model answers a question right: `right-80` does in 80% of them, and in all those of `right-60` too."""
    drawn = int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") / 2**32
    return drawn < int(model.rpartition("-")[2]) / 100


class Handler(http.server.BaseHTTPRequestHandler):
    """OpenAI chat, streamed: "What is 3 plus 4?" is answered by a sum, or by a wrong one, filled up to `min_tokens`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(body, body["messages"][0]["content"])

    def answer(self, body: dict, question: str) -> None:
        words = self.words(question, body["model"])
        time.sleep(LOADED_TOKEN_S * body.get("min_tokens", 0))
        filled = ["and"] * (body.get("min_tokens", 0) - len(words))
        events = [{"choices": [{"delta": {"content": f"{word} "}}]} for word in [*filled, *words]]
        events.append({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": self.usage(len(events))})
        data = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def usage(self, output_tokens: int) -> dict | None:
        return {"prompt_tokens": 20, "completion_tokens": output_tokens}

    def words(self, question: str, model: str) -> list[str]:
        if model.startswith("judge"):
            return judgement(question, model).split()
        one, two = (int(word.strip("?")) for word in question.split() if word.strip("?").isdigit())
        return f"The sum is {one + two + (not is_right(question, model))}".split()

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    sys.stdin.close()
    server.serve_forever()
