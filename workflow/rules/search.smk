"""Hyper-parameter searches: one study per variant and category, shared by several workers."""


localrules:
    create_study,
    summarize_study,


rule create_study:
    """Creates a study and queues the method's default settings as its first trial. Its journal lies in a folder that
    Snakemake does not manage, so that killed workers can continue."""
    input:
        inputs("create_study"),
    output:
        PATHS.study("description.json"),
    log:
        PATHS.log("create_study"),
    benchmark:
        PATHS.benchmark("create_study")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        spec=spec("create_study"),
    message:
        "Create the study of {wildcards.method} on {wildcards.dataset}, {wildcards.category}"
    shell:
        "python -m nfbench --log {log:q} create_study --spec {params.spec:q}"


rule search_hyperparameters:
    """Runs one of the workers that share the trials of a study."""
    input:
        inputs("search_hyperparameters"),
    output:
        PATHS.study("worker{worker}.json"),
    log:
        PATHS.log("search_hyperparameters"),
    benchmark:
        PATHS.benchmark("search_hyperparameters")
    priority: 1
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("search_hyperparameters", 8000),
        runtime=time_limit(480),
        gpu=GPUS,
        device=DEVICE,
    params:
        spec=spec("search_hyperparameters"),
        code=code("search_hyperparameters"),
    message:
        "Search the settings of {wildcards.method} on {wildcards.dataset}, {wildcards.category}, worker {wildcards.worker}"
    shell:
        "python -m nfbench --log {log:q} search_hyperparameters --spec {params.spec:q} --device {resources.device:q}"
        " --threads {threads}"


rule summarize_study:
    """Writes the record and the best settings of a study after its last trial."""
    input:
        inputs("summarize_study"),
    output:
        record=PATHS.study("study.json"),
        best=PATHS.study("best.yaml"),
        trials=PATHS.study("trials.csv"),
    log:
        PATHS.log("summarize_study"),
    benchmark:
        PATHS.benchmark("summarize_study")
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=time_limit(30),
    params:
        spec=spec("summarize_study"),
        code=code("summarize_study"),
    message:
        "Summarize the study of {wildcards.method} on {wildcards.dataset}, {wildcards.category}"
    shell:
        "python -m nfbench --log {log:q} summarize_study --spec {params.spec:q}"
