"""A SageMaker of one's own on loopback: real model servers behind the SageMaker wire protocol.

It imports nothing of `helpers`, which talks to it only through boto3, sagemaker-core and HTTP, exactly as it talks to AWS.

* `server`: the process itself: one port, both planes, and the rules for when it ends.
* `control_plane`: models, endpoint configs, endpoints and tags (`CreateEndpoint`, `DescribeEndpoint`, ...).
* `variants`: what an endpoint config may ask for, and how an endpoint is described.
* `data_plane`: `InvokeEndpoint` and `InvokeEndpointWithResponseStream`.
* `logs`: CloudWatch Logs of the endpoints (`DescribeLogStreams`, `GetLogEvents`).
* `access`: who may call: signatures are verified, other Hosts and web pages refused.
* `json_protocol`: the wire of the control plane: operations, JSON answers.
* `api`: what a request may hold, from botocore's description of both services.
* `faults`: calls that go wrong on demand, to rehearse failures with.
* `model_servers`: one process per endpoint, with the container contract of SageMaker (`/ping`, `/invocations`).
* `event_stream`: the frames of a streaming answer.
* `event_loop`: uvloop where it is installed.
* `engine`: the default model server (OpenVINO GenAI, continuous batching, OpenAI bodies).
* `tiny_model`: the synthetic Llama that the default model server loads, made on the spot from a seed.
"""
