"""Report: one page with everything that came of an experiment."""


rule build_report:
    """Writes the report as a page that needs nothing beside itself. Runs that are not done are named in it."""
    input:
        records=lambda wildcards: run_records(wildcards.experiment),
        results=PATHS.template("experiments/{experiment}/results.parquet"),
    output:
        PATHS.template("reports/{experiment}.html"),
    log:
        PATHS.log("build_report", "{experiment}"),
    benchmark:
        PATHS.benchmark("build_report", "{experiment}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        config=CONFIG,
        code=fingerprint("report", "tables", "results", "reference", *page_parts()),
    message:
        "Write the report of {wildcards.experiment}"
    shell:
        "python -m nfbench --log {log:q} build_report --experiment {wildcards.experiment:q} --config {params.config:q}"
