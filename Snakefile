"""nfbench: from images to the papers' tables. `snakemake --cores all [EXPERIMENT]`; see README.md."""

from snakemake.utils import min_version

min_version("9.20")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/console.smk"
include: "workflow/rules/checks.smk"
include: "workflow/rules/jobs.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    """The runs, tables and figures of the configured experiment."""
    default_target: True
    input:
        outputs(BENCH.config.experiment),
    message:
        complete(BENCH.config.experiment)


onstart:
    check_before_jobs()
    remove_levels_with_meta()
    if CONSOLE:
        CONSOLE.start()


onerror:
    if CONSOLE:
        CONSOLE.print_failures()
