"""Training: one flow per cell."""


rule train_flow:
    """Trains a method on cached features. Its checkpoints lie in a folder that Snakemake does not know, so that a killed
    job goes on where it stopped."""
    input:
        features=PATHS.features.replace("{view}", "train"),
        manifest=PATHS.manifest,
        anomalies=lambda wildcards: list(anomaly_features(wildcards).values()),
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
        mem_mb=8000,
        gpu=GPUS,
    params:
        method=method_options,
        anomalies=anomaly_options,
        device=DEVICE,
        run=subpath(output.model, parent=True),
        code=training_code,
    message:
        "Train {wildcards.method} on {wildcards.dataset}, {wildcards.category}, {wildcards.backbone}, seed {wildcards.seed}"
    shell:
        "python -m nfbench --log {log:q} train_flow --features {input.features:q} --manifest {input.manifest:q} --run {params.run:q}"
        " {params.method} {params.anomalies} --setting {wildcards.setting} --dataset {wildcards.dataset:q}"
        " --category {wildcards.category:q} --backbone-tag {wildcards.backbone:q} --seed {wildcards.seed}"
        " --device {params.device} --threads {threads}"
