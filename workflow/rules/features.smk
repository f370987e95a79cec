"""Features: pass images through a frozen backbone, once for all methods and seeds."""

import shutil


@reporting_errors
def tested_first(wildcards):
    """The view of the test images, which comes first: models are scored, and go, before the next training."""
    job = JOBS["extract_features"](wildcards)
    if wildcards.view == "test" or job.is_settled:
        return []
    return [PLAN.extract(wildcards.backbone, wildcards.dataset, wildcards.category, "test").spec.features]


def remove_levels_with_meta():
    """Has the levels go when Snakemake removes the meta.json next to them, as a temporary file that no job needs."""
    remove_meta = workflow.dag.handle_temp

    async def handle_temp(job):
        await remove_meta(job)
        for meta in map(Path, {*job.input, *job.output}):
            if meta.name == Path(PATHS.features).name and not meta.exists():
                shutil.rmtree(meta.parent, ignore_errors=True)

    if not BENCH.config.keep_features:
        workflow.dag.handle_temp = handle_temp


rule extract_features:
    """Caches the features of one view, pseudo-anomalies with their masks; the levels lie next to meta.json."""
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
        "Extract {wildcards.view} features of {wildcards.dataset}, {wildcards.category} by {wildcards.backbone}"
    shell:
        "python -m nfbench --log {log:q} extract_features --spec {params.spec:q} --device {resources.device:q}"
        " --threads {threads}"
