"""Data: get datasets, look at them, check and hash the images of a category."""


rule list_data:
    """Lists the datasets that can be fetched, with licence and citation."""
    output:
        PATHS.template("sources.json"),
    log:
        PATHS.log("list_data", "sources"),
    benchmark:
        PATHS.benchmark("list_data", "sources")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=time_limit(10),
    params:
        root=BENCH.config.data_root,
    message:
        "List the datasets that can be fetched"
    shell:
        "python -m nfbench --log {log:q} data list --data-root {params.root:q} --output {output:q}"


rule fetch_data:
    """Downloads a dataset to its place below the data's root; its record lies beside it."""
    output:
        record=FETCHED,
    log:
        PATHS.log("fetch_data", "{reader}"),
    benchmark:
        PATHS.benchmark("fetch_data", "{reader}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=time_limit(1440),
    params:
        root=subpath(output.record, ancestor=2),
    message:
        "Fetch {wildcards.reader}"
    shell:
        "python -m nfbench --log {log:q} data fetch {wildcards.reader:q} --data-root {params.root:q}"


rule check_data:
    """Reads every image and mask of a dataset and holds their numbers against the official ones."""
    input:
        fetched_data,
    output:
        PATHS.template("checks/{dataset}.json"),
    log:
        PATHS.log("check_data", "{dataset}"),
    benchmark:
        PATHS.benchmark("check_data", "{dataset}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=time_limit(240),
    params:
        dataset=check_options,
        code=fingerprint("datasets"),
    message:
        "Check the images of {wildcards.dataset}"
    shell:
        "python -m nfbench --log {log:q} data check {params.dataset} --output {output:q}"


rule prepare_data:
    """Writes the manifest of a category; generated datasets are made first."""
    input:
        fetched_data,
    output:
        PATHS.manifest,
    log:
        PATHS.log("prepare_data", "{dataset}/{category}"),
    benchmark:
        PATHS.benchmark("prepare_data", "{dataset}/{category}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=time_limit(120),
    params:
        dataset=dataset_options,
        code=fingerprint("datasets"),
    message:
        "Check the images of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python -m nfbench --log {log:q} prepare_data {params.dataset}"
        " --category {wildcards.category:q} --output {output:q}"
