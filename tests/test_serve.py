"""The server gives the model's own answers to many clients at once, and survives what they do."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from tasks.evaluate import generation
from tasks.serve import __main__ as serve
from tasks.serve.application import Limits, Server
from tasks.serve.loaded import Loaded, load
from tasks.serve.requests import Refusal
from tasks.serve.worker import End, Job, Worker
from tests.project import Project

LIMITS = Limits(new_tokens=24, prompt_tokens=200, body_bytes=4_000, rows=4, seconds=30)
WORDS = ["Say it.", "Name a colour.", "What is the capital of France?", "Count to three, and then stop at once."]


@pytest.fixture(scope="module")
def loaded(project: Project) -> Loaded:
    with pytest.MonkeyPatch.context() as patch:
        project.enter(patch)
        return serve.usable(load(MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}"), "models:/instructflow/1"))


@pytest.fixture
def server(loaded: Loaded) -> Iterator[Server]:
    worker = Worker(loaded, together=3, room=LIMITS.prompt_tokens + LIMITS.new_tokens, waiting=20)
    worker.start()
    yield Server(worker, LIMITS)
    worker.stop()
    worker.join()


def send(server: Server, *requests: tuple[str, Any]) -> list[httpx.Response]:
    """The responses to (path, body) pairs that are sent together; a body of None is a GET, of bytes sent as it is."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(server.application(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:

            async def one(path: str, body: Any) -> httpx.Response:
                if body is None:
                    return await client.get(path)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                return await client.post(path, content=content)

            return list(await asyncio.gather(*(one(*request) for request in requests)))

    return asyncio.run(all_of_them())


def chat(words: str, **wishes: Any) -> tuple[str, Any]:
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": words}], **wishes}


def alone(loaded: Loaded, words: str, limit: int) -> str:
    """The answer as evaluation computes it."""
    prompt = loaded.chat.encode(loaded.chat.prompt(words))
    with loaded.engine.plain_attention():
        [ids] = generation.answer(loaded.engine, [prompt], limit, lambda answer: answer[-1] in loaded.ends)
    return str(loaded.chat.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def test_many_clients_at_once_get_the_answers_that_each_would_get_alone(server: Server, loaded: Loaded) -> None:
    asked = [(WORDS[place % 4], 3 + 2 * place) for place in range(10)]
    responses = send(server, *(chat(words, max_tokens=limit) for words, limit in asked))
    got = [response.json()["choices"][0]["message"]["content"] for response in responses]
    assert got == [alone(loaded, words, limit) for words, limit in asked]
    assert len(set(got)) > 1


def test_a_stream_s_pieces_are_the_whole_answer(server: Server, loaded: Loaded) -> None:
    [response] = send(server, chat(WORDS[2], stream=True))
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event)["choices"][0] for event in events[:-1]]
    text = "".join(piece["delta"].get("content", "") for piece in pieces)
    assert text == alone(loaded, WORDS[2], LIMITS.new_tokens)
    assert pieces[-1]["finish_reason"] in {"stop", "length"}


def test_rows_are_answered_in_mlflow_s_forms(server: Server, loaded: Loaded) -> None:
    records = [{"instruction": WORDS[0]}, {"messages": [{"role": "user", "content": WORDS[1]}]}]
    split = {"columns": ["instruction"], "data": [[WORDS[0]]]}
    two, one = send(
        server,
        ("/invocations", {"dataframe_records": records, "params": {"max_new_tokens": 4}}),
        ("/invocations", {"dataframe_split": split, "params": {"max_new_tokens": 4}}),
    )
    assert two.json() == {"predictions": [alone(loaded, words, 4) for words in WORDS[:2]]}
    assert one.json() == {"predictions": [alone(loaded, WORDS[0], 4)]}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "must be JSON"),
        (b"[" * 3_000, 400, "must be JSON"),
        (b"x" * 5_000, 413, "4,000 bytes"),
        ({"messages": "hello"}, 400, "must be a list"),
        ({"messages": []}, 400, "the user's last"),
        ({"messages": [{"role": "user"}]}, 400, "the user's last"),
        ({"messages": [{"role": "user", "content": "word " * 500}]}, 400, "tokens, and 200 fit"),
        ({"messages": [{"role": "tool", "content": "a"}, {"role": "user", "content": "b"}]}, 400, "take turns"),
        ({"messages": [{"role": "user", "content": "a"}], "max_tokens": 25}, 400, "1 to 24 tokens"),
        ({"messages": [{"role": "user", "content": "a"}], "temperature": 0.7}, 400, "leave it out"),
        ({"messages": [{"role": "user", "content": "a"}], "stop": ["b"]}, 400, "`stop`"),
        ({"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}}, 400, "as text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, 400, "needs"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_what_to_change(
    server: Server, body: Any, status: int, said: str
) -> None:
    [response] = send(server, ("/v1/chat/completions", body))
    assert response.status_code == status
    assert said in response.json()["error"]["message"]


def test_a_fault_of_the_server_tells_a_client_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("/home/someone/secret")

    monkeypatch.setattr(server, "begin", fails)
    [response] = send(server, chat("Say it."))
    assert response.status_code == 500
    assert response.json() == {"error": {"message": "the server failed", "type": "server_error"}}


def test_health_and_metrics_tell_the_version_and_what_was_done(server: Server) -> None:
    answered, health, missing = send(server, chat("Say it."), ("/health", None), ("/elsewhere", None))
    assert answered.status_code == 200
    assert health.json() == {"status": "ok", "model": "instructflow/1"}
    assert missing.status_code == 404
    [metrics] = send(server, ("/metrics", None))
    assert "instructflow_status_200_total" in metrics.text
    assert 'instructflow_version{version="1"} 1' in metrics.text


def test_an_answer_whose_client_is_gone_leaves_its_place(server: Server) -> None:
    async def break_off() -> None:
        transport = httpx.ASGITransport(server.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            path, body = chat(WORDS[3])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.post(path, json=body), 0.001)

    asyncio.run(break_off())
    assert send(server, chat("Say it."))[0].status_code == 200
    assert not server.worker.open


def test_another_version_takes_over_without_a_break(server: Server, loaded: Loaded) -> None:
    newer = Loaded(loaded.name, "2", loaded.engine, loaded.chat, loaded.ends)
    swap = threading.Timer(0.05, server.worker.swap, [newer])
    swap.start()
    responses = send(server, *(chat(words) for words in WORDS * 2))
    assert {response.status_code for response in responses} == {200}
    swap.join()
    [later] = send(server, chat("Say it."))
    assert later.json()["model"] in {"instructflow/1", "instructflow/2"}
    assert send(server, ("/health", None))[0].json()["model"] == "instructflow/2"


@pytest.mark.parametrize("fault", [None, RuntimeError("not enough memory"), OSError("no such file")])
def test_the_server_follows_the_alias_and_keeps_its_version_where_the_next_cannot_be_loaded(
    server: Server, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    newer = Loaded(loaded.name, "2", loaded.engine, loaded.chat, loaded.ends)
    tried, ended = threading.Event(), threading.Event()

    def load(*_: object) -> Loaded:
        tried.set()
        if fault:
            raise fault
        return newer

    monkeypatch.setattr(serve.stored, "resolve", lambda *_: SimpleNamespace(version="2"))
    monkeypatch.setattr(serve, "load", load)
    monkeypatch.setattr(serve, "usable", lambda one: one)
    follower = threading.Thread(target=serve.follow, args=(None, "models:/a@b", server.worker, 0.01, ended))
    follower.start()
    assert tried.wait(10)
    time.sleep(0.1)
    assert follower.is_alive()
    ended.set()
    follower.join()
    assert server.worker.loaded is (loaded if fault else newer)


def test_a_prompt_that_does_not_fit_a_newer_version_is_no_end_of_the_worker(server: Server, loaded: Loaded) -> None:
    def refuses(_: Loaded) -> list[int]:
        raise Refusal(400, "too long by now")

    older = Loaded(loaded.name, "0", loaded.engine, loaded.chat, loaded.ends)
    ended = threading.Event()
    job = Job(refuses, older, [1], 4, time.monotonic() + 30, lambda _: ended.set())
    assert server.worker.submit(job)
    assert ended.wait(10)
    assert job.end is End.FAILED
    assert send(server, chat("Say it."))[0].status_code == 200


def test_too_many_requests_are_told_to_come_back(loaded: Loaded) -> None:
    idle = Server(Worker(loaded, together=1, room=64, waiting=1), LIMITS)  # it was not started
    idle.worker.submit = lambda job: False  # type: ignore[method-assign]
    [response] = send(idle, chat("Say it."))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
