"""`snakemake --cores all [EXPERIMENT]` in this folder; the workflow is in workflow/."""


include: "workflow/Snakefile"
