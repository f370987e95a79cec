"""Checks before the first job of a run."""

from subprocess import CalledProcessError

EXTRAS_OF_RULES = {"search_hyperparameters": "search", "summarize_study": "search", "track_runs": "tracking"}


def check_before_jobs():
    """Checks what depends on the environment of the jobs. Jobs on a cluster or in a conda environment make these checks
    themselves, because Snakemake may run with another torch, without torch, or without a GPU."""
    if not workflow.local_exec:
        check_names_for_a_cluster()
    if not workflow.local_exec or workflow.touch or workflow.deployment_settings.deployment_method:
        return
    jobs = list(workflow.dag.needrun_jobs())
    gathered = sorted(job.wildcards.experiment for job in jobs if job.rule.name == "aggregate_results")
    gpu = ["--gpu"] if DEVICE == "cuda" and any(job.resources.get("gpu") for job in jobs) else []
    extras = sorted({EXTRAS_OF_RULES[job.rule.name] for job in jobs if job.rule.name in EXTRAS_OF_RULES})
    extras = [f"--extra={name}" for name in extras]
    try:
        shell("{sys.executable:q} -m nfbench check_start {gpu:q} {extras:q} --config {CONFIG:q} {gathered:q}")
    except CalledProcessError:
        sys.exit(1)  # the command has printed the reason


def check_names_for_a_cluster():
    """Refuses names that Snakemake's executors do not quote in the commands they submit."""
    for job in workflow.dag.needrun_jobs():
        for kind, name in job.wildcards.items():
            if found := set(name) & set("$'%"):
                refuse(f"{kind} '{name}': jobs of a cluster cannot have {' '.join(sorted(found))} in a name; rename it")
