"""nfbench: from images to the papers' tables. `snakemake --cores all [EXPERIMENT]`; see README.md."""

from snakemake.utils import min_version

min_version("9.20")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/options.smk"
include: "workflow/rules/lookup.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/studies.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"


report: "workflow/report/workflow.rst"


rule all:
    """The tables and figures of the configured experiment."""
    default_target: True
    input:
        lambda wildcards: experiment_outputs(BENCH.config.experiment),


for experiment in BENCH.experiments:

    rule:
        name:
            experiment
        input:
            lambda wildcards, name=experiment: experiment_outputs(name),


onstart:
    if computes_on_gpu_here():
        shell("{sys.executable:q} -m nfbench check_device")
    shell("{sys.executable:q} -m nfbench check_variants --config {CONFIG:q}")
