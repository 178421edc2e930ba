"""The default model server: OpenVINO GenAI with continuous batching behind SageMaker's container contract.

`GET /ping` answers 200 once the model is loaded; `POST /invocations` takes OpenAI chat or completions bodies, as do
`/v1/chat/completions` and `/v1/completions`; streaming and not, always with a correct `finish_reason`.
Run by `python -m local_sagemaker.engine`. Counts are in tokens.

* `settings`: what the environment variables say.
* `cores`: which cores the process may use.
* `request_bodies`: an OpenAI request body, checked.
* `routes`: HTTP paths, and errors as OpenAI shows them.
* `openai_answers`: OpenAI's answer bodies, streamed or at once.
* `answers`: one answer on its way, piece by piece.
* `scheduler`: the batch: admits, steps and delivers.
* `text_decoding`: tokens to text, and stop texts.
* `model_file`: what a GGUF file says about context and tokens.
* `errors`: what can go wrong.
"""
