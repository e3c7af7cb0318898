"""An OpenSSH server on a loopback port, without root's rights, and the home folder of a user who knows its host key."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import programs
from tests.loopback import free_port

# StrictModes would refuse keys under /tmp, a folder in which anyone may write. Without PAM a server that may not read
# the shadow file takes every account for locked.
SERVER = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
"""

OWN = """
Host 127.0.0.1 team-data
    Port {port}
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
"""
"""What is this server's own, after what README says: SSH takes the first value that it finds."""


@dataclass(frozen=True)
class Server:
    """A server: its port, the only user it lets in, that user's key, a folder to write in, its log."""

    port: int
    user: str
    key: Path
    folder: Path
    log: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Its process, once it answers."""
        command = [str(programs.find("ssh")), "-D", "-e", "-f", str(self.folder / "config")]
        with self.log.open("ab") as written:
            process = subprocess.Popen(command, stderr=written, user=self.user)
        wait_for(self.port, self.log)
        return process

    def home(self, folder: Path, readme: str, host_key: Path) -> Path:
        """A home folder with README's SSH settings for this server, which `known_hosts` knows by this host key."""
        settings = folder / ".ssh"
        settings.mkdir(parents=True)
        known_hosts, config = settings / "known_hosts", settings / "config"
        known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key.with_suffix('.pub').read_text()}")
        # OpenSSH finds its settings by the user's entry in the system, not by HOME.
        said = readme.replace("data.example.org", "127.0.0.1").replace("ssh -W", f"ssh -F {config} -W")
        own = OWN.format(port=self.port, user=self.user, key=self.key, known_hosts=known_hosts)
        config.write_text(said + own)
        return folder


def make_key(path: Path) -> Path:
    """A new key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def made(folder: Path, key: Path) -> Server:
    """A server that lets `key` in, with all it writes in `folder`; it does not run yet."""
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    port = free_port()
    make_key(folder / "host_key")
    shutil.copyfile(key.with_suffix(".pub"), folder / "authorized_keys")
    (folder / "config").write_text(SERVER.format(port=port, folder=folder))
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, user)
    return Server(port, user, key, folder, folder / "log")


@contextmanager
def started(folder: Path, key: Path) -> Iterator[Server]:
    """A server that runs while the block does."""
    server = made(folder, key)
    with server.start() as process:
        try:
            yield server
        finally:
            process.terminate()


def wait_for(port: int, log: Path) -> None:
    """Return as soon as the port answers; AssertionError with the server's log after ten seconds."""
    for _ in range(100):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())
