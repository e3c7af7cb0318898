"""The server's pages: chat completions, MLflow's invocations, health and metrics. Errors tell no path and no trace."""

import asyncio
import functools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tasks.serve import requests
from tasks.serve.loaded import Loaded
from tasks.serve.requests import Asked, Refusal
from tasks.serve.worker import End, Job, Worker

Handler = Callable[[Request], Awaitable[Response]]

_ENDS = {End.STOP: "stop", End.LENGTH: "length", End.TIME: "length"}
"""OpenAI's names of ends; an answer that ran out of time is cut as one that ran out of tokens."""


@dataclass(frozen=True)
class Limits:
    """What a client may ask for: tokens of an answer and of its prompt, bytes of a body, rows, seconds."""

    new_tokens: int
    prompt_tokens: int
    body_bytes: int
    rows: int
    seconds: float


class Server:
    """The pages around one worker."""

    def __init__(self, worker: Worker, limits: Limits) -> None:
        self.worker, self.limits = worker, limits
        self.counts: Counter[str] = Counter()
        self.began = time.monotonic()

    def application(self) -> Starlette:
        """The ASGI application."""
        pages: list[tuple[str, Handler, str]] = [
            ("/v1/chat/completions", self.chat, "POST"),
            ("/v1/models", self.models, "GET"),
            ("/invocations", self.invocations, "POST"),
            ("/health", self.health, "GET"),
            ("/ping", self.health, "GET"),
            ("/metrics", self.metrics, "GET"),
        ]
        handlers: dict[Any, Any] = {Refusal: refused, HTTPException: not_found, Exception: failed}
        routes = [Route(path, self.counted(page), methods=[method]) for path, page, method in pages]
        return Starlette(routes=routes, exception_handlers=handlers)

    def counted(self, page: Handler) -> Handler:
        """The page, whose answers are counted by their status."""

        async def counting(request: Request) -> Response:
            try:
                response = await page(request)
            except Refusal as refusal:
                self.counts[f"status_{refusal.status}"] += 1
                raise
            self.counts[f"status_{response.status_code}"] += 1
            return response

        return counting

    async def read(self, request: Request) -> Any:
        """The JSON of the body, which must come within the time of an answer."""
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await requests.body(request, self.limits.body_bytes)
        except TimeoutError:
            raise Refusal(408, "the body took too long") from None

    async def chat(self, request: Request) -> Response:
        """An OpenAI-style chat completion, whole or as a stream of its pieces."""
        asked = requests.of_chat(await self.read(request), self.limits.new_tokens)
        [answer] = self.begin(asked)
        named = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": self.name}
        if asked.stream:
            return StreamingResponse(streamed(named, answer), media_type="text/event-stream")
        await whole([answer], request)
        return JSONResponse(completion(named, answer))

    async def invocations(self, request: Request) -> Response:
        """Answers to rows, as MLflow's own servers give them."""
        asked = requests.of_rows(await self.read(request), self.limits.new_tokens, self.limits.rows)
        answers = self.begin(asked)
        await whole(answers, request)
        return JSONResponse({"predictions": [answer.text for answer in answers]})

    async def models(self, request: Request) -> Response:
        """The version that answers."""
        own = {"id": self.name, "object": "model", "owned_by": "instructflow"}
        return JSONResponse({"object": "list", "data": [own]})

    async def health(self, request: Request) -> Response:
        """Whether answers can be made, and by which version."""
        well = self.worker.is_alive()
        return JSONResponse({"status": "ok" if well else "down", "model": self.name}, 200 if well else 503)

    async def metrics(self, request: Request) -> Response:
        """Counts and states in Prometheus' text form."""
        counts = {**self.counts, **self.worker.counts}
        lines = [f"instructflow_{name}_total {value}" for name, value in sorted(counts.items())]
        lines += [
            f"instructflow_open_answers {len(self.worker.open)}",
            f"instructflow_waiting_answers {self.worker.waiting}",
            f"instructflow_uptime_seconds {time.monotonic() - self.began:.0f}",
            f'instructflow_version{{version="{self.worker.loaded.version}"}} 1',
        ]
        return PlainTextResponse("\n".join(lines) + "\n")

    @property
    def name(self) -> str:
        """The version's name for clients."""
        return f"{self.worker.loaded.name}/{self.worker.loaded.version}"

    def begin(self, asked: Asked) -> list["Answer"]:
        """Hand all conversations over. Raises Refusal where too many wait."""
        loaded, seconds = self.worker.loaded, self.limits.seconds
        answers = [
            Answer(
                functools.partial(requests.prompt, conversation, self.limits.prompt_tokens),
                loaded,
                asked.limit,
                seconds,
            )
            for conversation in asked.conversations
        ]
        for answer in answers:
            if not self.worker.submit(answer.job):
                for other in answers:
                    other.job.gone = True
                raise Refusal(503, "too many requests wait; come back in some seconds")
        return answers


class Answer:
    """An answer as this side sees it: its pieces of text arrive while the worker's thread computes."""

    def __init__(self, encode: Callable[[Loaded], list[int]], loaded: Loaded, limit: int, seconds: float) -> None:
        self._loop, self._came = asyncio.get_running_loop(), asyncio.Event()
        self.job = Job(encode, loaded, encode(loaded), limit, time.monotonic() + seconds, self._tell)

    def _tell(self, job: Job) -> None:
        """Called in the worker's thread; the loop may have ended with its server."""
        try:
            self._loop.call_soon_threadsafe(self._came.set)
        except RuntimeError:
            job.gone = True

    @property
    def text(self) -> str:
        """What there is so far."""
        return str(self.job.loaded.chat.tokenizer.decode(self.job.answer, skip_special_tokens=True)).strip()

    async def more(self) -> None:
        """Wait until something has come."""
        await self._came.wait()
        self._came.clear()

    async def pieces(self) -> AsyncIterator[str]:
        """The text piece by piece; half a character waits for its other half, and white space for what follows."""
        sent = ""
        while True:
            ended, now = self.job.end is not None, self.text
            if len(now) > len(sent) and (ended or not now.endswith("\N{REPLACEMENT CHARACTER}")):
                yield now[len(sent) :]
                sent = now
            if ended:
                return
            await self.more()


async def whole(answers: list[Answer], request: Request) -> None:
    """Wait for the end of each. A client that is gone ends them; Refusal where one failed."""
    watch = asyncio.ensure_future(gone(request))
    try:
        for answer in answers:
            while answer.job.end is None and not watch.done():
                more = asyncio.ensure_future(answer.more())
                await asyncio.wait((more, watch), return_when=asyncio.FIRST_COMPLETED)
                more.cancel()
    finally:
        watch.cancel()
        for answer in answers:
            answer.job.gone = answer.job.end is None
    if any(answer.job.end in (None, End.GONE) for answer in answers):
        raise Refusal(499, "the client is gone")
    jobs = [answer.job for answer in answers]
    if any(job.end is End.FAILED or (job.end is End.TIME and not job.answer) for job in jobs):
        raise Refusal(503, "no answer could be made in time")


async def gone(request: Request) -> None:
    """Return when the client has closed its side."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def streamed(named: dict[str, Any], answer: Answer) -> AsyncIterator[str]:
    """The pieces as server-sent events; a client that goes away ends the answer."""

    def event(delta: dict[str, str], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**named, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    try:
        yield event({"role": "assistant"})
        async for piece in answer.pieces():
            yield event({"content": piece})
        yield event({}, _ENDS.get(answer.job.end or End.STOP, "error"))
        yield "data: [DONE]\n\n"
    finally:
        answer.job.gone = True


def completion(named: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """The whole answer in OpenAI's form."""
    job = answer.job
    message = {"role": "assistant", "content": answer.text}
    usage = {"prompt_tokens": len(job.prompt), "completion_tokens": len(job.answer)}
    return {
        **named,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": _ENDS[job.end or End.STOP]}],
        "usage": {**usage, "total_tokens": sum(usage.values())},
    }


async def refused(request: Request, refusal: Exception) -> Response:
    """What the client may change."""
    status = refusal.status if isinstance(refusal, Refusal) else 500
    headers = {"Retry-After": "2"} if status == 503 else None
    return JSONResponse({"error": {"message": str(refusal), "type": "invalid_request"}}, status, headers)


async def not_found(request: Request, error: Exception) -> Response:
    """No such page, or not by this method."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    return JSONResponse({"error": {"message": "there is no such page", "type": "invalid_request"}}, status)


async def failed(request: Request, error: Exception) -> Response:
    """A fault of the server, of which a client learns no more."""
    return JSONResponse({"error": {"message": "the server failed", "type": "server_error"}}, 500)
