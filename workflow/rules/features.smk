"""Features: pass images through a frozen backbone, once for all methods and seeds."""


rule extract_features:
    """Caches the features of one view, pseudo-anomalies with their masks; the levels lie beside meta.json."""
    input:
        manifest=PATHS.manifest,
    output:
        PATHS.features,
    log:
        PATHS.log("extract_features", PATHS.features_suffix),
    benchmark:
        PATHS.benchmark("extract_features", PATHS.features_suffix)
    conda:
        "../../envs/nfbench.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=time_limit(240),
        gpu=GPUS,
        device=DEVICE,
    params:
        backbone=backbone_options,
        code=lambda wildcards: features_code(wildcards.view),
    message:
        "Extract {wildcards.view} features of {wildcards.dataset}, {wildcards.category} by {wildcards.backbone}"
    shell:
        "python -m nfbench --log {log:q} extract_features --manifest {input.manifest:q}"
        " --view {wildcards.view} {params.backbone} --device {resources.device}"
        " --threads {threads} --output {output:q}"
