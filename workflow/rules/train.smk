"""Training: one flow per cell, in the setting unified one for all categories of a dataset."""


rule train_flow:
    """Trains a method on cached features. Its checkpoints lie in a folder that Snakemake does not know, so that a killed
    job goes on where it stopped."""
    input:
        features=train_features,
        manifests=manifests,
        pseudo=pseudo_features,
        real=real_features,
        study=study_record,
    output:
        model=PATHS.run("model.safetensors"),
        checkpoints=PATHS.run("checkpoints.safetensors"),
        history=PATHS.run("history.csv"),
        training=PATHS.run("training.json"),
    log:
        PATHS.log("train_flow", PATHS.run_suffix),
    benchmark:
        PATHS.benchmark("train_flow", PATHS.run_suffix)
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=time_limit(480),
        gpu=GPUS,
        device=DEVICE,
    params:
        classes=class_options,
        method=method_options,
        anomalies=anomaly_options,
        study=lambda wildcards: options(study=study_record(wildcards) or None),
        run=subpath(output.model, parent=True),
        code=code_of_training,
    message:
        "Train {wildcards.method} on {wildcards.dataset}, {wildcards.category}, {wildcards.backbone}, seed {wildcards.seed}"
    shell:
        "python -m nfbench --log {log:q} train_flow {params.classes} --run {params.run:q}"
        " {params.method} {params.anomalies} {params.study} --setting {wildcards.setting} --dataset {wildcards.dataset:q}"
        " --category {wildcards.category:q} --backbone-tag {wildcards.backbone:q} --seed {wildcards.seed}"
        " --device {resources.device} --threads {threads}"
