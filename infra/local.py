"""python -m infra.local up | down | status | backup | restore FOLDER: a team's servers on one machine, no containers.

PostgreSQL (Debian: postgresql), Prefect, MLflow with a login, and a worker of the pool `instructflow`, all on loopback.
FOLDER holds all they know: postgres, artifacts, logs, the passwords (secrets.env) and what clients source (client.env).
"""

from pathlib import Path
from typing import Annotated

import typer

from infra import backup as backups
from infra.team import Team
from tasks import errors
from tasks.errors import UserError

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Argument(help="All that the servers know.")]
Out = Annotated[Path, typer.Argument(help="The folder of the backup.")]


@app.command()
def up(folder: Folder) -> None:
    """Start what does not run yet; the first time, make it. Other ports: POSTGRES_PORT, PREFECT_PORT, MLFLOW_PORT."""
    team = Team.make(folder)
    team.up()
    print(f"Prefect: {team.prefect.address}\nMLflow:  {team.mlflow.address}")
    print(f"Clients: . {team.folder / 'client.env'}")


@app.command()
def down(folder: Folder) -> None:
    """End what runs."""
    Team.of(folder).down()


@app.command()
def status(folder: Folder) -> None:
    """Say what runs and is well; exit status 1 where something is not."""
    team = Team.of(folder)
    states = team.states()
    for name, state in states.items():
        print(f"{name:9}{state}")
    if set(states.values()) != {"up"}:
        raise typer.Exit(1)


@app.command()
def backup(folder: Folder, out: Out) -> None:
    """Write data bases and artifacts to OUT, while the servers run. secrets.env is not in it: keep that elsewhere."""
    backups.backup(Team.of(folder), out)
    print(f"backup: {out}")


@app.command()
def restore(folder: Folder, out: Out) -> None:
    """Put a backup in the place of what is there, while the servers are down; FOLDER holds the secrets.env of then."""
    if not (folder / "secrets.env").exists():
        raise UserError(
            f"{folder / 'secrets.env'} is missing: put there the one of the backup's time, whose passwords are MLflow's"
        )
    backups.restore(Team.make(folder), out)
    print(f"restored: {folder}; python -m infra.local up {folder}")


if __name__ == "__main__":
    errors.run(app)
