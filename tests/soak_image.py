"""python -m tests.soak_image: the steps of infra/Dockerfile in a bare Debian, and what it is to run, started there.

No container engine is asked for: `debootstrap` makes the Debian release that the image is built on, with its own Python
of the same minor version, and the steps run in it, by chroot, as root. Then the servers and a plan of this repository
run as the image's user, with nothing to write to but what the manifests mount. What was seen stands in
build/soak/image.json.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks import outputs
from tests import dockerfile
from tests.data_fixtures import ROOT
from tests.dockerfile import Step

RESULT = ROOT / "build/soak/image.json"
REPOSITORY = "/srv/instructflow"
WRITABLE = ("/tmp", "/home/instructflow", "/dev/shm")  # noqa: S108
"""What the manifests mount, and the shared memory that every container has."""

SERVED = """
import subprocess, sys, time, urllib.error, urllib.request
page, *command = sys.argv[1:]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    for _ in range(300):
        assert server.poll() is None, f"it ended with {server.returncode}"
        try:
            print(urllib.request.urlopen(page, timeout=10).read(200).decode())
            break
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(1)
    else:
        raise TimeoutError(page)
finally:
    server.terminate()
    server.wait(60)
"""
"""Start a server, and see its page."""

# What a container of each kind runs, at ports that nothing else here has.
MLFLOW = "mlflow server --host 127.0.0.1 --port 45991 --serve-artifacts --artifacts-destination /tmp/artifacts"
RUNS = {
    "signals and orphans": "tini --version",
    "git of a volume that is root's": "git status --short",
    "what the cluster's worker imports": "python -c 'import prefect_kubernetes.worker, kopf'",
    "what a remote needs": "python -c 'import s3fs, boto3, dvc_s3, dvc_ssh'",
    "a plan of the repository": "python -m flows.plan",
    "Prefect's pages": "python /tmp/served.py http://127.0.0.1:45990/ prefect server start --port 45990",
    "MLflow's page": f"python /tmp/served.py http://127.0.0.1:45991/ {MLFLOW} --backend-store-uri sqlite:////tmp/m.db",
}


class Image:
    """A folder that becomes the image, step by step."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
        self.user = "0:0"
        self.folder = "/"

    def take(self, step: Step) -> None:
        """Do what an instruction says."""
        getattr(self, f"_{step.instruction.lower()}")(step)

    def shell(self, command: str, *mounts: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it as its user. Mounts are seen by that command alone, and end with it."""
        inside = f"cd {self.folder} && {command}"
        chroot = shlex.join(["chroot", f"--userspec={self.user}", str(self.root), "sh", "-c", inside])
        script = " && ".join([*self._bound(), f"mount -t proc proc {self.root}/proc", *mounts, f"exec {chroot}"])
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "sh", "-c", script],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def _from(self, step: Step) -> None:
        version, minor, release = re.findall(r"python:((\d\.\d+)\.\d+)-slim-(\w+)", step.rest)[0]
        packages = "python3,python3-pip,python3-venv,ca-certificates"
        call("debootstrap", "--variant=minbase", f"--include={packages}", release, str(self.root))
        for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/xdg/pip/pip.conf", *registries()):
            if Path(path).is_file():
                Path(f"{self.root}{path}").parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, f"{self.root}{path}")
        self.environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        done = self.shell(f"python{minor} -m venv /usr/local && python --version")
        assert done.returncode == 0, done.stdout
        print(f"{done.stdout.strip()} stands for {version}", flush=True)

    def _run(self, step: Step) -> None:
        done = self.shell(step.rest)
        assert done.returncode == 0, f"{step.rest}\n{done.stdout[-4000:]}"

    def _copy(self, step: Step) -> None:
        sources, target = dockerfile.copied(step)
        for source in sources:
            assert source in dockerfile.context(), f"{source}: .dockerignore leaves it out"
            shutil.copy(ROOT / source, self.root / target.strip("/"))

    def _env(self, step: Step) -> None:
        self.environment |= dict([step.rest.split("=", 1)])

    def _arg(self, step: Step) -> None:
        """From the environment, as everything that begins with PIP_."""

    def _user(self, step: Step) -> None:
        self.user = step.rest
        self.environment["HOME"] = "/home/instructflow"

    def _workdir(self, step: Step) -> None:
        self.folder = step.rest
        (self.root / step.rest.strip("/")).mkdir(parents=True, exist_ok=True)

    def _entrypoint(self, step: Step) -> None:
        self.entry = shlex.join(json.loads(step.rest))

    def _bound(self) -> list[str]:
        """Mounts of the folders in which this machine keeps packages."""
        folders = sorted({str(Path(path).parent) for path in registries() if Path(path).is_dir()})
        return [f"mkdir -p {self.root}{path} && mount --bind -o ro {path} {self.root}{path}" for path in folders]


def registries() -> list[str]:
    """The files and folders that pip is told of on this machine, and must find in the image while it is built."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    return re.findall(r"(?:file://)?(/\w[\w./-]*)", told)


def call(*command: str) -> None:
    """Run a command on this machine."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-4000:]}"


def tried(image: Image, command: str) -> str:
    """The end of what a command prints that runs as a container would: read-only but for the mounts."""
    done = image.shell(
        f"cp /srv/served.py /tmp/ && exec {image.entry} {command}",
        f"mount --rbind {image.root} {image.root}",
        f"mount -o remount,bind,ro {image.root}",
        *(f"mount -t tmpfs -o mode=1777 tmpfs {image.root}{path}" for path in WRITABLE),
        f"mount --bind {image.root.parent}/repository {image.root}{REPOSITORY}",
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout.strip()[-300:]


def main() -> None:
    """Build it and try it."""
    seen: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        image = Image(Path(folder, "root"))
        for step in dockerfile.steps(dockerfile.PATH.read_text(encoding="utf-8")):
            began = time.monotonic()
            image.take(step)
            seen[" ".join(step)[:70]] = round(time.monotonic() - began, 1)
            print(f"{seen[' '.join(step)[:70]]:7} s  {' '.join(step)[:70]}", flush=True)
        call("git", "clone", "--quiet", str(ROOT), f"{folder}/repository")
        call("chown", "--recursive", image.user, f"{folder}/repository")
        call("chown", "root", f"{folder}/repository")
        (image.root / "srv/served.py").write_text(SERVED, encoding="utf-8")
        for name, command in RUNS.items():
            seen[name] = tried(image, command)
            print(f"{name}: {seen[name]}", flush=True)
        size = subprocess.run(["du", "--summarize", "--bytes", image.root], capture_output=True, text=True, check=True)
        seen["bytes"] = int(size.stdout.split()[0])
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    outputs.write_json(RESULT, seen)
    print(RESULT)


if __name__ == "__main__":
    main()
