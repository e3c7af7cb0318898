"""OpenStack Swift on loopback ports as a server that speaks S3: its four servers, each a process, with one replica.

https://docs.openstack.org/swift/latest/s3_compat.html
"""

import getpass
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from tests import programs
from tests.loopback import free_ports

KEPT_BY = ("object", "container", "account")
"""The servers that keep something, each with a ring that tells the proxy where it is."""

RINGS = """
import sys
from swift.common.ring import RingBuilder

for name, port in zip(sys.argv[1::2], sys.argv[2::2]):
    ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1})
    ring.rebalance()
    ring.get_ring().save(f"{name}.ring.gz")
"""

COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}
mount_check = false
"""

KEEPER = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

# Without /etc/swift, without memcached, and with as much in one part as MinIO and AWS ask for.
PROXY = """
[pipeline:main]
pipeline = catch_errors proxy-logging s3api tempauth slo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_team_member = {secret} .admin
[filter:slo]
use = egg:swift#slo
"""


@dataclass(frozen=True)
class Server:
    """A server that runs: its port, the one login it knows, and the folder with all that it writes."""

    port: int
    folder: Path
    user: str = "team:member"
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def login(self, secret: str | None = None, port: int | None = None) -> dict[str, str]:
        """The environment of a client, with another secret or another way to the server where one is given."""
        return {
            "AWS_ACCESS_KEY_ID": self.user,
            "AWS_SECRET_ACCESS_KEY": secret or self.secret,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
        }

    def client(self) -> Any:
        """A client that looks at what is there."""
        keys = {"aws_access_key_id": self.user, "aws_secret_access_key": self.secret}
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}", **keys)


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    """A server without any bucket, with all it writes in `folder`."""
    *keepers, port = free_ports(len(KEPT_BY) + 1)
    server = Server(port, folder)
    (folder / "disk").mkdir()
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    settings = {name: KEEPER.format(name=name) for name in KEPT_BY} | {"proxy": PROXY.format(secret=server.secret)}
    ports = dict(zip(settings, [*keepers, port], strict=True))
    scripts = Path(str(programs.find("s3"))).parent
    rings = [str(word) for name in KEPT_BY for word in (name, ports[name])]
    subprocess.run([scripts / "python", "-c", RINGS, *rings], cwd=folder, check=True)
    with ExitStack() as running:
        for name, own in settings.items():
            common = COMMON.format(port=ports[name], folder=folder, user=getpass.getuser())
            (folder / f"{name}.conf").write_text(common + own)
            log = running.enter_context((folder / f"{name}.log").open("wb"))
            command = [scripts / f"swift-{name}-server", folder / f"{name}.conf", "-v"]
            process = subprocess.Popen(command, stdout=log, stderr=log)
            running.enter_context(process)
            running.callback(process.terminate)
        wait_for(server)
        yield server


def wait_for(server: Server) -> None:
    """Return as soon as all four answer."""
    for _ in range(200):
        logs = [server.folder / f"{name}.log" for name in (*KEPT_BY, "proxy")]
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{server.port}/info"):
            return
        time.sleep(0.1)
    raise AssertionError("\n".join(log.read_text() for log in logs))
