"""Tracking: the runs of an experiment in MLflow, on demand: `snakemake --cores all track_EXPERIMENT`."""


localrules:
    track_runs,


rule track_runs:
    """Brings runs, tables and figures of an experiment into MLflow. It is the only one that writes there."""
    input:
        lambda wildcards: tracked_results(wildcards.experiment),
    output:
        PATHS.template("mlflow/{experiment}.json"),
    log:
        PATHS.log("track_runs", "{experiment}"),
    benchmark:
        PATHS.benchmark("track_runs", "{experiment}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(60),
    params:
        config=CONFIG,
        store=Store.of(PATHS.tracking).title,
        code=fingerprint("tracking", "cli/track.py"),
    message:
        "Track the runs of {wildcards.experiment} in {params.store}"
    shell:
        "python -m nfbench --log {log:q} track_runs {wildcards.experiment:q} --config {params.config:q}"
        " --summary {output:q}"


for experiment in BENCH.experiments:

    rule:
        name:
            f"track_{experiment}"
        input:
            lambda wildcards, name=experiment: experiment_outputs(name),
            PATHS.template(f"mlflow/{experiment}.json"),
