"""Features: pass images through a frozen backbone, once for all methods and seeds."""


rule extract_features:
    """Caches the features of one view, and the masks of pseudo-anomalies. The levels lie next to meta.json."""
    input:
        inputs("extract_features"),
        tested_first,
    output:
        PATHS.features if BENCH.config.keep_features else temp(PATHS.features),
    log:
        PATHS.log("extract_features"),
    benchmark:
        PATHS.benchmark("extract_features")
    conda:
        "../../envs/nfbench.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=time_limit(240),
        gpu=GPUS,
        device=DEVICE,
    params:
        spec=spec("extract_features"),
    message:
        "Extract features of {wildcards.dataset}, {wildcards.category}, view {wildcards.view}, with {wildcards.backbone}"
    shell:
        "python -m nfbench --log {log:q} extract_features --spec {params.spec:q} --device {resources.device:q}"
        " --threads {threads}"
