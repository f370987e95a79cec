"""Results: gather the runs of an experiment; build its tables, figures and report; track it on demand."""


localrules:
    aggregate_results,
    build_table,
    build_figure,
    build_report,
    track_runs,


rule aggregate_results:
    """Gathers all run records; refuses holes."""
    input:
        inputs("aggregate_results"),
    output:
        results=PATHS.template("experiments/{experiment}/results.parquet"),
        ledger=PATHS.template("experiments/{experiment}/ledger.csv"),
    log:
        PATHS.log("aggregate_results"),
    benchmark:
        PATHS.benchmark("aggregate_results")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        spec=spec("aggregate_results"),
        code=code("aggregate_results"),
    message:
        "Gather the results of {wildcards.experiment}"
    shell:
        "python -m nfbench --log {log:q} aggregate_results --spec {params.spec:q}"


rule build_table:
    """Writes a table as LaTeX, HTML and CSV, with published values next to measured ones."""
    input:
        inputs("build_table"),
    output:
        tex=PATHS.template("tables/{experiment}/{table}.tex"),
        html=report(
            PATHS.template("tables/{experiment}/{table}.html"),
            category="{experiment}",
            subcategory="Tables",
            labels={"table": "{table}"},
            caption="../report/table.rst",
        ),
        csv=PATHS.template("tables/{experiment}/{table}.csv"),
    log:
        PATHS.log("build_table"),
    benchmark:
        PATHS.benchmark("build_table")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        spec=spec("build_table"),
        code=code("build_table"),
        title=lambda wildcards: PLAN.table(wildcards.experiment, wildcards.table).spec.table.title,
    message:
        "Build the table {wildcards.table}"
    shell:
        "python -m nfbench --log {log:q} build_table --spec {params.spec:q}"


rule build_figure:
    """Draws a figure as PDF and PNG."""
    input:
        inputs("build_figure"),
    output:
        pdf=PATHS.template("figures/{experiment}/{figure}.pdf"),
        png=report(
            PATHS.template("figures/{experiment}/{figure}.png"),
            category="{experiment}",
            subcategory="Figures",
            labels={"figure": "{figure}"},
            caption="../report/figure.rst",
        ),
    log:
        PATHS.log("build_figure"),
    benchmark:
        PATHS.benchmark("build_figure")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        spec=spec("build_figure"),
        code=code("build_figure"),
        kind=lambda wildcards: PLAN.figure(wildcards.experiment, wildcards.figure).spec.figure.kind,
    message:
        "Draw the figure {wildcards.figure}"
    shell:
        "python -m nfbench --log {log:q} build_figure --spec {params.spec:q}"


rule build_report:
    """Writes the report as a page that needs nothing beside itself."""
    input:
        inputs("build_report"),
    output:
        PATHS.template("reports/{experiment}.html"),
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
        code=code("build_report"),
    message:
        "Write the report of {wildcards.experiment}"
    shell:
        "python -m nfbench --log {log:q} build_report --spec {params.spec:q}"


rule track_runs:
    """Brings runs, tables and figures of an experiment into MLflow. It is the only rule that writes there."""
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
            f"{experiment} is complete: 'nfbench show {experiment}' prints its tables"

    rule:
        name:
            f"track_{experiment}"
        input:
            outputs(experiment),
            PATHS.template(f"mlflow/{experiment}.json"),
        message:
            f"{experiment} is complete and tracked: 'nfbench mlflow' opens MLflow's pages"
