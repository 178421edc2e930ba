"""A config as a person writes it, with an option of each of two kinds."""

TEXT = """\
name: test
model: {name: m, tokenizer: "synthetic:2m", context_tokens: 4096}
prompts:
  source:
    kind: python_reference
datasets:
  - name: short
    prompt_tokens: [1, 500]
    count: 200
  - name: long
    prompt_tokens: [500, 1000]
    count: 200
generation:
  max_output_tokens: 24
options:
  - name: server
    target: openai
    base_url: http://localhost:8000/v1
    served_model: m
  - name: endpoint
    target: sagemaker
    api: openai_chat
    instance_type: ml.c5.large
    container:
      image: engine
      environment: {THREADS: 1}
    price:
      usd_per_hour: 0.5
load:
  kind: closed_loop
  concurrency: [1, 4]
  min_requests: 110
slo:
  percentile: 95
  latency_s: 0.5
traffic:
  requests_per_minute: 60
  headroom: 0.3
"""
