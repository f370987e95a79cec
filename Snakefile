"""`snakemake --cores all [EXPERIMENT]` in this folder; the workflow is in workflow/."""


include: "workflow/Snakefile"


workflow.default_target = "all"  # an included file does not set it
