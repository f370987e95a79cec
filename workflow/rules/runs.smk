"""Runs: train and evaluate one model per cell, or one for all categories of a dataset in the setting unified."""


rule train_flow:
    """Trains a method on cached features. Checkpoints lie in a folder that Snakemake does not manage, so that a killed
    training continues where it stopped."""
    input:
        inputs("train_flow"),
    output:
        [PATHS.run(name) for name in TRAINED],
    log:
        PATHS.log("train_flow"),
    benchmark:
        PATHS.benchmark("train_flow")
    priority: 1  # before the next extraction, to save disk space
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("train_flow", 8000),
        runtime=time_limit(480),
        gpu=GPUS,
        device=DEVICE,
    params:
        spec=spec("train_flow"),
    message:
        "Train {wildcards.method} on {wildcards.dataset}, {wildcards.category}, {wildcards.backbone}, seed {wildcards.seed}{wildcards.condition}"
    shell:
        "python -m nfbench --log {log:q} train_flow --spec {params.spec:q} --device {resources.device:q}"
        " --threads {threads}"


rule score_run:
    """Scores the test images of a category with every kept model. The evaluation deletes the maps."""
    input:
        inputs("score_run"),
    output:
        PATHS.run(SCORED),
    log:
        PATHS.log("score_run"),
    benchmark:
        PATHS.benchmark("score_run")
    priority: 2  # before the next training, to save disk space
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("score_run", 6000),
        runtime=time_limit(120),
        gpu=GPUS,
        device=DEVICE,
        keep_models=lambda wildcards: kept_models(BENCH, cell_of(wildcards)),
        latency=lambda wildcards: "latency" if times_images(BENCH, cell_of(wildcards)) else "no-latency",
    params:
        spec=spec("score_run"),
    message:
        "Score {wildcards.method} on {wildcards.dataset}, {wildcards.category}, {wildcards.backbone}, seed {wildcards.seed}{wildcards.condition}"
    shell:
        "python -m nfbench --log {log:q} score_run --spec {params.spec:q} --device {resources.device:q}"
        " --threads {threads} --keep-models {resources.keep_models:q} --{resources.latency:q}"


rule evaluate_run:
    """Computes the metrics of all kept models at the size of the original images; needs no GPU."""
    input:
        inputs("evaluate_run"),
    output:
        [PATHS.run(name) for name in EVALUATED],
    log:
        PATHS.log("evaluate_run"),
    benchmark:
        PATHS.benchmark("evaluate_run")
    priority: 2
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory_of("evaluate_run", 6000),
        runtime=time_limit(120),
    params:
        spec=spec("evaluate_run"),
    message:
        "Evaluate {wildcards.method} on {wildcards.dataset}, {wildcards.category}, {wildcards.backbone}, seed {wildcards.seed}{wildcards.condition}"
    shell:
        "python -m nfbench --log {log:q} evaluate_run --spec {params.spec:q} --threads {threads}"
