"""A Slurm on one machine: a controller and some nodes with names, ports and folders of their own, on loopback only.

For tests, and to try profiles/slurm by hand: ``python -m tests.slurm.cluster`` starts it, says how to use it, and ends
it with Ctrl-C. It needs root and Debian's slurmctld, slurmd, slurm-client and munge, and ends only what it started:
daemons are its own children, and die with it.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "setpriv")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PREFIX = "nfbench-slurm-"
LINK = Path("/etc/slurm/slurm.conf")
"""Where jobs look for the configuration: Snakemake's job steps drop ``SLURM_CONF``."""

_CONFIG = """
ClusterName=nfbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MinJobAge=3600
KillWait=3
SlurmdTimeout=10
ReturnToService=2
"""


def missing() -> str:
    """Why Slurm cannot be started here; empty if it can."""
    if os.geteuid() != 0:
        return "a Slurm of our own needs root"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"{', '.join(absent)} not installed; 'make test-slurm' installs {' '.join(PACKAGES)} on Debian"
    if LINK.is_symlink() and _is_left_by_us():
        LINK.unlink()
    if LINK.exists() or LINK.is_symlink():
        return f"{LINK} exists: this machine is part of a Slurm, which tests leave alone"
    return ""


def _is_left_by_us() -> bool:
    """Whether the link is of a Slurm of these tests that was killed: to a folder of theirs, without a controller."""
    running = any(process.info["name"] == "slurmctld" for process in psutil.process_iter(["name"]))
    return PREFIX in os.readlink(LINK) and not running


class Cluster:
    """A running Slurm with the partitions of profiles/slurm, ``main`` and ``gpu``, of all nodes.

    Args:
        folder: takes all files.
        nodes: number of nodes, ``n1``, ``n2``, ... Each claims 8 cores, on any machine.
        memory_mb: that each node claims.
    """

    def __init__(self, folder: Path, nodes: int, memory_mb: int) -> None:
        self.folder, self.nodes = folder, [f"n{number + 1}" for number in range(nodes)]
        self._daemons: dict[str, subprocess.Popen] = {}
        for name in ("munge", "state"):
            (folder / name).mkdir(parents=True)
        for path in (folder, folder / "munge"):
            path.chmod(0o755)
        (folder / "munge" / "key").write_bytes(os.urandom(1024))
        (folder / "munge" / "key").chmod(0o400)
        host, ports = socket.gethostname().partition(".")[0], _free_ports(nodes + 1)
        lines = [_CONFIG.format(host=host, port=ports[0], folder=folder).strip()]
        for node, port in zip(self.nodes, ports[1:], strict=True):
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory={memory_mb}"
            )
        lines += [f"PartitionName={name} Nodes=ALL MaxTime=1440" for name in ("main", "gpu")]
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start all daemons and wait until all nodes are idle.

        Raises:
            RuntimeError: they are not after a minute; says what was logged.
        """
        LINK.parent.mkdir(exist_ok=True)
        LINK.symlink_to(self.folder / "slurm.conf")
        munge = self.folder / "munge"
        self._spawn(
            "munged", "-F", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
            f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=2",
        )  # fmt: skip
        _wait((munge / "socket").exists, 10)
        self._spawn("slurmctld", "-D", "-i", "-f", str(self.folder / "slurm.conf"))
        for node in self.nodes:
            self.start_node(node)
        if not _wait(lambda: self.idle() >= set(self.nodes), 60):
            logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
            raise RuntimeError(f"not all nodes of Slurm are up after a minute:\n{logs}")

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._spawn(node, "-D", "-N", node, "-f", str(self.folder / "slurm.conf"), program="slurmd")

    def lose(self, node: str) -> None:
        """Kill the daemon of a node; its jobs continue unobserved."""
        self._daemons.pop(node).kill()

    def crash(self, node: str) -> None:
        """Kill everything on a node at once, like a power cut."""
        steps = [step for step in self._steps() if _runs_on(step, node)]
        jobs = [process for step in steps for process in _tree(step)]
        self.lose(node)
        for process in [*steps, *jobs]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def idle(self) -> set[str]:
        """Nodes that accept jobs and are idle."""
        return set(self.ask("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())

    def finished(self) -> list[dict[str, str]]:
        """Slurm's records of all ended jobs: ``JobId``, ``JobState``, ``NodeList`` and more."""
        path = self.folder / "jobs.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def ask(self, *command: str) -> str:
        """Output of a Slurm command; empty if it fails."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    def stop(self) -> None:
        """Cancels all jobs and ends all daemons."""
        if self.ask("squeue", "-h").strip():
            self.ask("scancel", "--full", "--user", "root")
            _wait(lambda: not self.ask("squeue", "-h").strip(), 20)
        left = [process for step in self._steps() for process in [step, *_tree(step)]]
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        LINK.unlink(missing_ok=True)

    def _spawn(self, name: str, *arguments: str, program: str | None = None) -> None:
        """Start a daemon in the foreground, which ends with this process, even if this is killed."""
        command = ["setpriv", "--pdeathsig", "TERM", program or name, *arguments]
        with open(self.folder / f"{name}.out.log", "w") as output:
            self._daemons[name] = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _steps(self) -> list[psutil.Process]:
        """Processes of this cluster that look after the steps of jobs, on all nodes."""
        found, ours = [], f"SLURM_CONF={self.folder}/slurm.conf".encode()
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(OSError):  # it has ended
                if process.info["name"] == "slurmstepd" and ours in Path(f"/proc/{process.pid}/environ").read_bytes():
                    found.append(process)
        return found


@contextlib.contextmanager
def running(nodes: int = 2, memory_mb: int = 16_000) -> Iterator[Cluster]:
    """A cluster that is stopped, and its files removed, when the block ends."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        cluster = Cluster(Path(folder), nodes, memory_mb)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def environment_of(process: psutil.Process) -> dict[str, str]:
    """Environment of a process; empty if the process has ended."""
    with contextlib.suppress(psutil.Error):
        return process.environ()
    return {}


def _tree(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _runs_on(step: psutil.Process, node: str) -> bool:
    """Whether a step belongs to a node, as its child processes show."""
    return any(environment_of(child).get("SLURMD_NODENAME") == node for child in _tree(step))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    if reason := missing():
        raise SystemExit(reason)
    with running() as started:
        print(
            f"Slurm with nodes {', '.join(started.nodes)} runs; its files are in {started.folder}. In another terminal:"
        )
        print("  snakemake --workflow-profile profiles/slurm --slurm-status-command squeue smoke")
        print("Ctrl-C ends it.")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
