"""The HTTP routes of the engine: SageMaker's container contract and OpenAI's paths, errors in OpenAI's format."""

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from local_sagemaker.engine.answers import Answer
from local_sagemaker.engine.errors import BadRequest, GenerationFailed
from local_sagemaker.engine.openai_answers import answer_at_once, stream_answer
from local_sagemaker.engine.request_bodies import read_request
from local_sagemaker.engine.scheduler import Engine
from local_sagemaker.engine.settings import SECRET_HEADER

MAX_BODY_BYTES = 25 * 1024 * 1024


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_application(engine: Engine, secret: str | None = None) -> web.Application:
    """The routes of the container contract and of OpenAI's API; `secret`, if given, is required of every caller."""

    async def ping(_: web.Request) -> web.Response:
        return web.Response()

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(engine.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def invocations(http_request: web.Request) -> web.StreamResponse:
        body = await _json_body(http_request)
        chat = not (isinstance(body, dict) and "prompt" in body and "messages" not in body)
        return await respond(http_request, body, chat, always_usage=True)

    async def chat_completions(http_request: web.Request) -> web.StreamResponse:
        return await respond(http_request, await _json_body(http_request), chat=True, always_usage=False)

    async def completions(http_request: web.Request) -> web.StreamResponse:
        return await respond(http_request, await _json_body(http_request), chat=False, always_usage=False)

    async def respond(http_request: web.Request, body: Any, chat: bool, always_usage: bool) -> web.StreamResponse:
        request = read_request(body, chat, engine.model_name, always_usage)
        answer = Answer(engine, request)
        try:
            if request.stream:
                return await stream_answer(http_request, request, answer)
            return await answer_at_once(request, answer)
        finally:
            answer.cancel()  # in case the client went away; has no effect once the answer has ended

    @web.middleware
    async def require_secret(request: web.Request, handler: Handler) -> web.StreamResponse:
        if secret is None or hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), secret.encode()):
            return await handler(request)
        return _error_response(403, "PermissionDeniedError", f"{SECRET_HEADER} is missing or wrong")

    application = web.Application(
        client_max_size=MAX_BODY_BYTES, middlewares=[_errors_in_openai_format, require_secret]
    )
    application.router.add_get("/ping", ping)
    application.router.add_get("/metrics", metrics)
    application.router.add_post("/invocations", invocations)
    application.router.add_post("/v1/chat/completions", chat_completions)
    application.router.add_post("/v1/completions", completions)

    async def start_engine(_: web.Application) -> None:
        engine.start()

    application.on_startup.append(start_engine)
    return application


async def _json_body(http_request: web.Request) -> Any:
    try:
        return json.loads(await http_request.read())
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


@web.middleware
async def _errors_in_openai_format(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadRequest as error:
        return _error_response(400, "BadRequestError", str(error))
    except GenerationFailed as error:
        return _error_response(500, "InternalServerError", str(error))


def _error_response(status: int, kind: str, message: str) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return web.json_response({"error": error, "object": "error"}, status=status)
