"""Results: collect the runs of an experiment, and build its tables and figures."""


localrules:
    aggregate_results,
    build_table,
    build_figure,
    copy_by_name,


rule aggregate_results:
    """Collects all run records; fails if one is missing."""
    input:
        inputs("aggregate_results"),
    output:
        results=str(PATHS.experiment("{experiment}", "results.parquet")),
        ledger=str(PATHS.experiment("{experiment}", "ledger.csv")),
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
    message:
        "Collect the results of {wildcards.experiment}"
    shell:
        "python -m nfbench --log {log:q} aggregate_results --spec {params.spec:q}"


rule build_table:
    """Writes a table as LaTeX, HTML and CSV, with published values next to measured ones."""
    input:
        inputs("build_table"),
    output:
        tex=str(PATHS.table("{experiment}", "{table}", "tex")),
        html=report(
            str(PATHS.table("{experiment}", "{table}", "html")),
            category="{experiment}",
            subcategory="Tables",
            labels={"table": "{table}"},
            caption="../report/table.rst",
        ),
        csv=str(PATHS.table("{experiment}", "{table}", "csv")),
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
        title=lambda wildcards: PLAN.table(wildcards.experiment, wildcards.table).spec.table.title,
    message:
        "Build table {wildcards.table}"
    shell:
        "python -m nfbench --log {log:q} build_table --spec {params.spec:q}"


rule build_figure:
    """Draws a figure as PDF and PNG."""
    input:
        inputs("build_figure"),
    output:
        pdf=str(PATHS.figure("{experiment}", "{figure}", "pdf")),
        png=report(
            str(PATHS.figure("{experiment}", "{figure}", "png")),
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
        kind=lambda wildcards: PLAN.figure(wildcards.experiment, wildcards.figure).spec.figure.kind,
    message:
        "Draw figure {wildcards.figure}"
    shell:
        "python -m nfbench --log {log:q} build_figure --spec {params.spec:q}"


rule copy_by_name:
    """Copies a table or figure to a path without the experiment; names are unique over all experiments."""
    input:
        lambda wildcards: PATHS.template(f"{BY_NAME[wildcards.named]}.{wildcards.ending}"),
    output:
        PATHS.template("{named}.{ending}"),
    log:
        PATHS.template("logs/copy_by_name/{named}.{ending}.log"),
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(100),
        runtime=time_limit(5),
    message:
        "Copy {wildcards.named}.{wildcards.ending}"
    shell:
        "cp -- {input:q} {output:q} > {log:q} 2>&1"
