"""Data: check and hash the images of a category."""


rule prepare_data:
    """Writes the manifest of a category; generated datasets are made first."""
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
        mem_mb=1000,
    params:
        dataset=dataset_options,
        code=fingerprint("datasets"),
    message:
        "Check the images of {wildcards.dataset}, {wildcards.category}"
    shell:
        "python -m nfbench --log {log:q} prepare_data {params.dataset}"
        " --category {wildcards.category:q} --output {output:q}"
