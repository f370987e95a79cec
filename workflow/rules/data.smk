"""Data: download and check datasets, and write the manifest of each category."""


rule list_data:
    """Lists the datasets that can be downloaded, with licence and citation."""
    output:
        PATHS.template("sources.json"),
    log:
        PATHS.template("logs/list_data/sources.log"),
    benchmark:
        PATHS.template("benchmarks/list_data/sources.tsv")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=time_limit(10),
    params:
        root=BENCH.config.data_root,
    message:
        "List the datasets that can be downloaded"
    shell:
        "python -m nfbench --log {log:q} data list --data-root {params.root:q} --output {output:q}"


rule fetch_data:
    """Downloads a dataset to its folder in data_root and writes a record of the download."""
    output:
        record=FETCHED,
    log:
        PATHS.log("fetch_data"),
    benchmark:
        PATHS.benchmark("fetch_data")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=time_limit(1440),
    params:
        root=subpath(output.record, ancestor=2),
    message:
        "Download {wildcards.reader}"
    shell:
        "python -m nfbench --log {log:q} data fetch {wildcards.reader:q} --data-root {params.root:q}"


rule check_data:
    """Reads every image and mask of a dataset and compares their numbers with the official ones."""
    input:
        fetched,
    output:
        PATHS.template("checks/{dataset}.json"),
    log:
        PATHS.log("check_data"),
    benchmark:
        PATHS.benchmark("check_data")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=time_limit(240),
    params:
        reader=lambda wildcards: BENCH.dataset(wildcards.dataset).dataset,
        root=lambda wildcards: str(PLAN.catalogue.root(wildcards.dataset)),
        stride=lambda wildcards: BENCH.dataset(wildcards.dataset).stride,
        code=lambda wildcards: code_hash(
            "nfbench.datasets._check:check_dataset", f"nfbench.datasets.{BENCH.dataset(wildcards.dataset).dataset}"
        ),
    message:
        "Check all images of {wildcards.dataset}"
    shell:
        "python -m nfbench --log {log:q} data check {params.reader:q} --root {params.root:q} --stride {params.stride:q}"
        " --output {output:q}"


rule prepare_data:
    """Checks and hashes the images of a category and writes its manifest. Generated datasets are created first."""
    input:
        fetched,
        inputs("prepare_data"),
    output:
        manifest=PATHS.manifest,
        record=PATHS.manifest_record,
    log:
        PATHS.log("prepare_data"),
    benchmark:
        PATHS.benchmark("prepare_data")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=time_limit(120),
    params:
        spec=spec("prepare_data"),
    message:
        "Check the images of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python -m nfbench --log {log:q} prepare_data --spec {params.spec:q}"
