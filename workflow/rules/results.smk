"""Results: gather the runs of an experiment; build its tables and figures."""


rule aggregate_results:
    """Gathers all run records; refuses holes."""
    input:
        lambda wildcards: run_records(wildcards.experiment),
    output:
        results=PATHS.template("experiments/{experiment}/results.parquet"),
        ledger=PATHS.template("experiments/{experiment}/ledger.csv"),
    log:
        PATHS.log("aggregate_results", "{experiment}"),
    benchmark:
        PATHS.benchmark("aggregate_results", "{experiment}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        config=CONFIG,
        code=fingerprint("results"),
    message:
        "Gather the results of {wildcards.experiment}"
    shell:
        "python -m nfbench --log {log:q} aggregate_results --experiment {wildcards.experiment:q} --config {params.config:q}"


rule build_table:
    """Writes a table as LaTeX, HTML and CSV, with published values beside measured ones."""
    input:
        lambda wildcards: results_of_table(wildcards.table),
    output:
        tex=PATHS.template("tables/{table}.tex"),
        html=report(
            PATHS.template("tables/{table}.html"),
            category="Tables",
            labels={"table": "{table}"},
            caption="../report/table.rst",
        ),
        csv=PATHS.template("tables/{table}.csv"),
    log:
        PATHS.log("build_table", "{table}"),
    benchmark:
        PATHS.benchmark("build_table", "{table}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        config=CONFIG,
        experiment=lambda wildcards: owner("tables", wildcards.table),
        spec=lambda wildcards: table_spec(wildcards.table),
        code=lambda wildcards: table_code(wildcards.table),
    message:
        "Build the table {wildcards.table}"
    shell:
        "python -m nfbench --log {log:q} build_table --experiment {params.experiment:q} --name {wildcards.table:q}"
        " --config {params.config:q}"


rule build_figure:
    """Draws a figure as PDF and PNG."""
    input:
        lambda wildcards: PATHS.experiment(owner("figures", wildcards.figure), "results.parquet"),
    output:
        pdf=PATHS.template("figures/{figure}.pdf"),
        png=report(
            PATHS.template("figures/{figure}.png"),
            category="Figures",
            labels={"figure": "{figure}"},
            caption="../report/figure.rst",
        ),
    log:
        PATHS.log("build_figure", "{figure}"),
    benchmark:
        PATHS.benchmark("build_figure", "{figure}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        config=CONFIG,
        experiment=lambda wildcards: owner("figures", wildcards.figure),
        spec=lambda wildcards: figure_spec(wildcards.figure),
        code=fingerprint("figures", "results/examples.py"),
    message:
        "Draw the figure {wildcards.figure}"
    shell:
        "python -m nfbench --log {log:q} build_figure --experiment {params.experiment:q} --name {wildcards.figure:q}"
        " --config {params.config:q}"
