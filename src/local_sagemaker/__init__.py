"""A local SageMaker on loopback: real model servers behind the SageMaker wire protocol.

It imports nothing of `helpers`, which talks to it only through boto3, sagemaker-core and HTTP, as it talks to AWS.

* `server`: the process: one port, both planes, and when it exits.
* `control_plane`: models, endpoint configs, endpoints and tags (`CreateEndpoint`, `DescribeEndpoint`, ...).
* `variants`: what an endpoint config may request, and how an endpoint is described.
* `data_plane`: `InvokeEndpoint` and `InvokeEndpointWithResponseStream`.
* `logs`: CloudWatch Logs of the endpoints (`DescribeLogStreams`, `GetLogEvents`).
* `access`: who may call: signatures are verified, other Hosts and web pages refused.
* `json_protocol`: the control plane's wire protocol: operations, JSON answers.
* `api`: which parameters a request may have, from botocore's description of both services.
* `faults`: calls that fail on demand, for rehearsing failures.
* `model_servers`: one process per endpoint, with the container contract of SageMaker (`/ping`, `/invocations`).
* `event_stream`: the frames of a streaming answer.
* `event_loop`: uvloop where it is installed.
* `engine`: the default model server (OpenVINO GenAI, continuous batching, OpenAI bodies).
* `tiny_model`: the synthetic Llama that the default model server loads, generated from a seed.
"""
