"""Report and tracking, and one target for each experiment."""


localrules:
    build_report,
    track_runs,


rule build_report:
    """Writes the report as one self-contained HTML file."""
    input:
        inputs("build_report"),
    output:
        str(PATHS.report("{experiment}")),
    log:
        PATHS.log("build_report"),
    benchmark:
        PATHS.benchmark("build_report")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        spec=spec("build_report"),
    message:
        "Write the report of {wildcards.experiment}"
    shell:
        "python -m nfbench --log {log:q} build_report --spec {params.spec:q}"


rule track_runs:
    """Writes the runs, tables and figures of an experiment to MLflow. No other rule writes there."""
    input:
        inputs("track_runs"),
    output:
        PATHS.template("mlflow/{experiment}.json"),
    log:
        PATHS.log("track_runs"),
    benchmark:
        PATHS.benchmark("track_runs")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(60),
    params:
        spec=spec("track_runs"),
        store=Store.of(PATHS.tracking).title,
        code=code("track_runs"),
    message:
        "Track the runs of {wildcards.experiment}"
    shell:
        "python -m nfbench --log {log:q} track_runs --spec {params.spec:q}"


for experiment in BENCH.experiments:

    rule:
        name:
            experiment
        input:
            outputs(experiment),
        message:
            complete(experiment)

    rule:
        name:
            f"track_{experiment}"
        input:
            outputs(experiment),
            PATHS.template(f"mlflow/{experiment}.json"),
        message:
            f"{complete(experiment)}\n  MLflow: 'nfbench mlflow' opens the pages of the tracked runs"


rule unknown_target:
    """Refuses a target that is neither a rule nor a path, and names the nearest experiment."""
    input:
        refuse_target,
    output:
        "{target,[^/.]+}",
