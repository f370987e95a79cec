"""What is checked before the first job of a run."""

from subprocess import CalledProcessError


def check_before_jobs():
    """Checks what only the environment of the jobs can check. Jobs in a cluster or in an environment of conda's find
    out for themselves: where Snakemake runs, there may be another torch, no torch, or no GPU."""
    if not workflow.local_exec:
        check_names_for_a_cluster()
    if not workflow.local_exec or workflow.touch or workflow.deployment_settings.deployment_method:
        return
    jobs = list(workflow.dag.needrun_jobs())
    gathered = sorted(job.wildcards.experiment for job in jobs if job.rule.name == "aggregate_results")
    gpu = ["--gpu"] if DEVICE == "cuda" and any(job.resources.get("gpu") for job in jobs) else []
    try:
        shell("{sys.executable:q} -m nfbench check_start {gpu:q} --config {CONFIG:q} {gathered:q}")
    except CalledProcessError:
        sys.exit(1)  # the command has said why


def check_names_for_a_cluster():
    """Refuses names that Snakemake's executors do not quote in the commands that they submit."""
    for job in workflow.dag.needrun_jobs():
        for kind, name in job.wildcards.items():
            if found := set(name) & set("$'%"):
                refuse(f"{kind} '{name}': jobs of a cluster cannot have {' '.join(sorted(found))} in a name; rename it")
