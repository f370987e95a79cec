"""Searches of hyper-parameters: one study for each variant with a search and each category, shared by several workers."""


rule create_study:
    """Describes a study, and has the method's own settings tried first. Its journal lies in a folder that Snakemake does
    not know, so that killed workers go on with it."""
    input:
        features=searched_features,
        judged=judged_features,
        pseudo=searched_pseudo_features,
        manifest=lambda wildcards: images_of(searched_cells(wildcards)[0], PATHS.manifest),
    output:
        PATHS.study("description.json"),
    log:
        PATHS.log("create_study", PATHS.study_suffix),
    benchmark:
        PATHS.benchmark("create_study", PATHS.study_suffix)
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        study=subpath(output[0], parent=True),
        options=study_options,
        code=lambda wildcards: code_of_training(wildcards) + fingerprint("scoring", "metrics", "search"),
    message:
        "Describe the study of {wildcards.method} on {wildcards.dataset}, {wildcards.category}"
    shell:
        "python -m nfbench --log {log:q} create_study --study {params.study:q} {params.options}"


rule search_hyperparameters:
    """One of the workers that share the trials of a study."""
    input:
        features=searched_features,
        judged=judged_features,
        pseudo=searched_pseudo_features,
        description=PATHS.study("description.json"),
    output:
        PATHS.study("worker{worker}.json"),
    log:
        PATHS.log("search_hyperparameters", f"{PATHS.study_suffix}/worker{{worker}}"),
    benchmark:
        PATHS.benchmark("search_hyperparameters", f"{PATHS.study_suffix}/worker{{worker}}")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=time_limit(480),
        gpu=GPUS,
        device=DEVICE,
    params:
        study=subpath(output[0], parent=True),
    message:
        "Search the settings of {wildcards.method} on {wildcards.dataset}, {wildcards.category}, worker {wildcards.worker}"
    shell:
        "python -m nfbench --log {log:q} search_hyperparameters --study {params.study:q} --worker {wildcards.worker}"
        " --device {resources.device} --threads {threads}"


rule summarize_study:
    """Writes the record of a study and its best settings, when all trials have ended."""
    input:
        workers=workers,
        description=PATHS.study("description.json"),
    output:
        record=PATHS.study("study.json"),
        best=PATHS.study("best.yaml"),
        trials=PATHS.study("trials.csv"),
    log:
        PATHS.log("summarize_study", PATHS.study_suffix),
    benchmark:
        PATHS.benchmark("summarize_study", PATHS.study_suffix)
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        study=subpath(output.record, parent=True),
    message:
        "Sum up the study of {wildcards.method} on {wildcards.dataset}, {wildcards.category}"
    shell:
        "python -m nfbench --log {log:q} summarize_study --study {params.study:q}"
