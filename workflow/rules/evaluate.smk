"""Evaluation: score the test images and write the run record."""


rule evaluate_run:
    """Scores the test images of a category with every kept model, at the size of the original images."""
    input:
        model=lambda wildcards: trained(wildcards, "model.safetensors"),
        checkpoints=lambda wildcards: trained(wildcards, "checkpoints.safetensors"),
        history=lambda wildcards: trained(wildcards, "history.csv"),
        training=lambda wildcards: trained(wildcards, "training.json"),
        train_features=lambda wildcards: features_of(cell_of(wildcards), "train"),
        features=lambda wildcards: features_of(cell_of(wildcards), "test"),
        manifest=lambda wildcards: images_of(cell_of(wildcards), PATHS.manifest),
        pseudo=own_pseudo_features,
    output:
        record=PATHS.run("run.json"),
        scores=PATHS.run("scores.csv"),
        regions=PATHS.run("regions.csv"),
        miou=PATHS.run("miou.csv"),
        calibration=PATHS.run("calibration.csv"),
        likelihoods=PATHS.run("likelihoods.csv"),
        examples=PATHS.run("examples.npz"),
    log:
        PATHS.log("evaluate_run", PATHS.run_suffix),
    benchmark:
        PATHS.benchmark("evaluate_run", PATHS.run_suffix)
    conda:
        "../../envs/nfbench.yaml"
    threads: 1
    resources:
        mem_mb=memory(6000),
        runtime=time_limit(120),
        gpu=GPUS,
        device=DEVICE,
    params:
        run=subpath(output.record, parent=True),
        trained=subpath(input.training, parent=True),
        pseudo=lambda wildcards: options(pseudo_features=own_pseudo_features(wildcards) or None),
        maps="--save-maps" if BENCH.config.save_maps else "",
        code=fingerprint(
            "scoring", "metrics", "results/record.py", "results/compose.py", "results/artifacts.py", "cli/evaluate.py"
        ),
    message:
        "Evaluate {wildcards.method} on {wildcards.dataset}, {wildcards.category}, {wildcards.backbone}, seed {wildcards.seed}"
    shell:
        "python -m nfbench --log {log:q} evaluate_run --run {params.run:q}"
        " --trained {params.trained:q} --category {wildcards.category:q}"
        " --train-features {input.train_features:q} --features {input.features:q} --manifest {input.manifest:q}"
        " {params.pseudo} {params.maps} --device {resources.device} --threads {threads}"
