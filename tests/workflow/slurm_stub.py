"""Stands in for Slurm's commands where there is no Slurm: it plays what a test has planned.

The environment variable ``SLURM_STUB`` names a folder. ``submitted.txt`` in it takes the command line of each job, one
a line. A file ``states`` says what becomes of the jobs, in the order of submission: a state of Slurm's, or REFUSED. A
job that is to be COMPLETED makes the files that ``outputs`` names, empty.
"""

import os
import shlex
import sys
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "sinfo", "scontrol", "sacctmgr", "sshare")


def main() -> None:
    folder = Path(os.environ["SLURM_STUB"])
    command, *arguments = sys.argv[1:]
    submitted, states = folder / "submitted.txt", (folder / "states").read_text()
    lines = submitted.read_text().splitlines() if submitted.exists() else []
    if command == "sbatch":
        submitted.write_text("\n".join([*lines, shlex.join(arguments).replace("\n", " ")]) + "\n")
        state = states.split()[len(lines)]
        if state == "REFUSED":
            sys.exit("sbatch: error: Batch job submission failed")
        for path in (folder / "outputs").read_text().split() if state == "COMPLETED" else ():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        print(len(lines) + 1)
    elif command == "sacct" and "--name" in arguments:
        for number, (_, state) in enumerate(zip(lines, states.split(), strict=False), start=1):
            print(f"{number}|{state}")


if __name__ == "__main__":
    main()
