"""python -m tasks.serve run: answer with a registered version, the champion by default, at an address of this machine.

POST /v1/chat/completions takes OpenAI-style requests, POST /invocations MLflow's; GET /health and /metrics tell how it
goes. When the alias moves, the new version takes over without a break.
"""

import threading
from typing import Annotated

import typer
import uvicorn
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks import errors, params, tracking
from tasks.errors import UserError
from tasks.evaluate import generation
from tasks.evaluate.attention import OtherAttentionError
from tasks.guards import GuardError
from tasks.register import stored
from tasks.serve.application import Limits, Server
from tasks.serve.loaded import Loaded, load
from tasks.serve.worker import Worker

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

_UNUSABLE = (UserError, GuardError, MlflowException, OSError, RuntimeError, ValueError)
"""What loading a version may end with: the registry, its files, or memory."""


@app.callback()
def main() -> None:
    """Serve a model."""


@app.command()
def run(
    address: Annotated[str | None, typer.Option(help="models:/NAME/VERSION or models:/NAME@ALIAS")] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    together: Annotated[int, typer.Option(help="Answers computed together.", min=1)] = 32,
    new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.", min=1)] = 256,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt at most.", min=1)] = 1024,
    seconds: Annotated[float, typer.Option(help="Seconds for an answer at most.", min=0.1)] = 60,
    every: Annotated[float, typer.Option(help="Seconds between looks at the alias.", min=0.1)] = 10,
) -> None:
    """Serve until Ctrl-C."""
    client = tracking.client()
    wanted = address or f"models:/{params.load().register_.name}@champion"
    worker = Worker(usable(load(client, wanted)), together, prompt_tokens + new_tokens, waiting=8 * together)
    worker.start()
    ended = threading.Event()
    threading.Thread(target=follow, args=(client, wanted, worker, every, ended), daemon=True).start()
    limits = Limits(new_tokens, prompt_tokens, body_bytes=256 * 1024, rows=together, seconds=seconds)
    print(f"{wanted}: version {worker.loaded.version} at http://{host}:{port}", flush=True)
    application = Server(worker, limits).application()
    uvicorn.run(
        application,
        host=host,
        port=port,
        log_level="warning",
        timeout_keep_alive=10,
        limit_concurrency=16 * together,  # connections; beyond them it answers 503
        server_header=False,
    )
    ended.set()
    worker.stop()


def usable(loaded: Loaded) -> Loaded:
    """The same version, tried once. Raises UserError where its attention is not the one that is computed here."""
    try:
        with loaded.engine.plain_attention():
            generation.answer(loaded.engine, [loaded.chat.encode(loaded.chat.prompt("Hello."))], 1, lambda _: True)
    except OtherAttentionError:
        raise UserError(
            f"{loaded.name}/{loaded.version}: this model's attention is not the plain one; serve it with"
            " `mlflow models serve`, or what `python -m tasks.register export` writes with vLLM"
        ) from None
    return loaded


def follow(client: MlflowClient, address: str, worker: Worker, every: float, ended: threading.Event) -> None:
    """Hand the worker the version that the address names by now; one that cannot be loaded changes nothing."""
    latest = worker.loaded.version
    while not ended.wait(every):
        try:
            now = str(stored.resolve(client, address).version)
            if now != latest:
                worker.swap(usable(load(client, address)))
                print(f"version {now} takes over from {latest}", flush=True)
                latest = now
        except _UNUSABLE as error:
            print(f"{address}: the version stays: {error}", flush=True)


if __name__ == "__main__":
    errors.run(app)
