"""The default model server: OpenVINO GenAI with continuous batching behind SageMaker's container contract.

`GET /ping` answers 200 once the model is loaded. `POST /invocations` takes OpenAI chat or completions bodies, as do
`/v1/chat/completions` and `/v1/completions`. Answers, streamed or not, have a correct `finish_reason`. `GET /metrics` has the
counts for Prometheus.
Run by `python -m local_sagemaker.engine`. Counts are in tokens.

* `metrics`: counts and gauges for `GET /metrics`.
* `settings`: settings from environment variables.
* `cores`: which cores the process may use.
* `request_bodies`: validation of OpenAI request bodies.
* `routes`: HTTP paths, and errors in OpenAI's format.
* `openai_answers`: OpenAI's answer bodies, streamed or whole.
* `answers`: one answer in progress, piece by piece.
* `scheduler`: the batch: admits, steps and delivers.
* `prefix_cache`: how much of a prompt the prefix cache held.
* `text_decoding`: tokens to text, and stop texts.
* `model_file`: context length and tokens of a GGUF file.
* `errors`: the engine's errors.
"""
