"""python -m infra.bench_serve: fifty clients at the server for a minute, some of which misbehave, beside a single one.

Some clients close their connection at any moment, some send too much or no JSON. What is counted is what whole answers
came a second, beside those of one client that asks one at a time; and every answer is looked at afterwards: each of
its tokens must be, within what rounding to bfloat16 can change, the likeliest one for the model in float32.
Writes build/bench/serve.json.
"""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import torch
import typer

from infra.turns import ROOT
from tasks import errors, outputs, tracking
from tasks.errors import UserError
from tasks.serve.loaded import load
from tests.loopback import free_port

RESULT = ROOT / "build/bench/serve.json"
TOKENS = 32
ROUNDING = 1.0
"""How far a token's logit may lie below the greatest one."""

THINGS = ("a bridge", "rain", "a library", "bread", "a bicycle", "the moon", "a market", "salt", "a violin", "snow")
WISHES = ("Say in one sentence what {} is.", "Name three things that go with {}.", "Is {} useful? Answer yes or no.")
PROMPTS = [wish.format(thing) for thing in THINGS for wish in WISHES]

Answers = set[tuple[str, str]]


def main(
    address: Annotated[str, typer.Option(help="The version to serve.")] = "models:/instructflow@candidate",
    clients: Annotated[int, typer.Option(min=1)] = 50,
    seconds: Annotated[float, typer.Option(help="How long they ask.", min=1)] = 60,
) -> None:
    """Measure the server and write build/bench/serve.json."""
    with server(address) as (page, process):
        single, ours = asyncio.run(asking(page, 1, seconds / 3, behave=True))
        before = memory(process)
        load_of_all, theirs = asyncio.run(asking(page, clients, seconds, behave=False))
        after, alive = memory(process), process.poll() is None
    told = {
        "ratio_to_single": round(rate(load_of_all, seconds) / rate(single, seconds / 3), 2),
        "answers_per_second": round(rate(load_of_all, seconds), 2),
        "answers_per_second_of_one": round(rate(single, seconds / 3), 2),
        "clients": clients,
        **{
            f"responses_{name.replace(': ', '_').replace(', ', '_')}": load_of_all[name] for name in sorted(load_of_all)
        },
        "crashed": int(not alive),
        "memory_mib_before": before,
        "memory_mib_after": after,
        "answers_looked_at": len(ours | theirs),
        "wrong_answers": wrong(address, ours | theirs),
        "tokens": TOKENS,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    outputs.write_json(RESULT, told)
    print(RESULT.read_text(encoding="utf-8"))


@contextlib.contextmanager
def server(address: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server's address and its process, once it answers. Raises UserError where it ends before."""
    port = free_port()
    command = [sys.executable, "-m", "tasks.serve", "run", "--address", address, "--port", str(port)]
    page = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            while True:
                if process.poll() is not None:
                    raise UserError(f"{address} could not be served; its reason stands above")
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"{page}/health")
                    break
                time.sleep(0.2)
            yield page, process
        finally:
            process.terminate()


async def asking(page: str, clients: int, seconds: float, behave: bool) -> tuple[Counter[str], Answers]:
    """Let so many clients ask one after another for some time; how their requests ended, and the whole answers."""
    counts, answers, end = Counter[str](), set[tuple[str, str]](), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=page, timeout=120, limits=limits) as session:

        async def ask(number: int) -> None:
            chance = random.Random(number)  # noqa: S311
            while time.monotonic() < end:
                way = "whole" if behave else chance.choices(["whole", "cut", "large", "broken"], [80, 10, 5, 5])[0]
                counts[await request(session, way, chance, answers, end)] += 1

        await asyncio.gather(*map(ask, range(clients)))
    return counts, answers


async def request(session: httpx.AsyncClient, way: str, chance: random.Random, answers: Answers, end: float) -> str:
    """One request in its way; what became of it."""
    asked = chance.choice(PROMPTS)
    body: Any = {"messages": [{"role": "user", "content": asked}], "max_tokens": TOKENS}
    body |= {"stream": True} if way == "cut" and chance.random() < 0.5 else {}
    if way in ("large", "broken"):
        content = b"x" * 1_000_000 if way == "large" else b'{"messages": [{"role": "user", '
        with contextlib.suppress(httpx.TransportError):  # refused before all of it was sent
            return f"{way}: {(await session.post('/v1/chat/completions', content=content)).status_code}"
        return f"{way}: closed"
    sent = session.post("/v1/chat/completions", json=body)
    if way == "cut":
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sent, chance.uniform(0, 1))
        return "cut"
    response = await sent
    if response.status_code == 200:
        answers.add((asked, response.json()["choices"][0]["message"]["content"]))
    return f"whole: {response.status_code}{'' if time.monotonic() <= end else ', late'}"


def rate(counts: Counter[str], seconds: float) -> float:
    """Whole answers a second, of those within the time."""
    return counts["whole: 200"] / seconds


def memory(process: subprocess.Popen[bytes]) -> int:
    """The server's memory now, in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) // 1024


def wrong(address: str, answers: Answers) -> int:
    """How many answers hold a token that is not the likeliest one, beyond rounding."""
    loaded = load(tracking.client(), address)
    model, chat = loaded.engine.model.float(), loaded.chat
    found = 0
    for asked, answer in sorted(answers):
        prompt = chat.encode(chat.prompt(asked))
        ids = [*prompt, *chat.encode(answer)]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
        own = logits.gather(1, torch.tensor(ids[len(prompt) :])[:, None])[:, 0]
        found += bool((logits.max(1).values - own > ROUNDING).any())
    return found


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
