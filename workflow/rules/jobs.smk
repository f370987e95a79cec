"""Inputs, spec, code and memory of the jobs of the plan."""

import shutil


def cell_of(wildcards):
    """The cell that a job belongs to."""
    names = ("setting", "dataset", "category", "method", "backbone")
    place = (wildcards[name] for name in names)
    return Cell(*place, seed=int(wildcards.seed), condition=wildcards.condition.removeprefix("-"))


JOBS = {
    "prepare_data": lambda w: PLAN.prepare(w.dataset, w.category),
    "extract_features": lambda w: PLAN.extract(w.backbone, w.dataset, w.category, w.view),
    "create_study": lambda w: PLAN.study(w.setting, w.dataset, w.category, w.method),
    "search_hyperparameters": lambda w: PLAN.worker(w.setting, w.dataset, w.category, w.method, int(w.worker)),
    "summarize_study": lambda w: PLAN.summary(w.setting, w.dataset, w.category, w.method),
    "train_flow": lambda w: PLAN.train(cell_of(w)),
    "score_run": lambda w: PLAN.score(cell_of(w)),
    "evaluate_run": lambda w: PLAN.evaluate(cell_of(w)),
    "aggregate_results": lambda w: PLAN.aggregate(w.experiment),
    "build_table": lambda w: PLAN.table(w.experiment, w.table),
    "build_figure": lambda w: PLAN.figure(w.experiment, w.figure),
    "build_report": lambda w: PLAN.report(w.experiment),
    "track_runs": lambda w: PLAN.track(w.experiment),
}


def inputs(stage):
    """Input files of the jobs of a stage. A job whose result is up to date has no inputs, so that intermediate files can
    be deleted, and making them again for other jobs does not repeat it."""

    @reporting_errors
    def of_job(wildcards):
        job = JOBS[stage](wildcards)
        if job.state == "stale" and RerunTrigger.PARAMS in workflow.rerun_triggers:
            # also if Snakemake has no metadata: the record came from another checkout, or .snakemake was deleted
            workflow.dag.forcefiles.add(str(job.target))
        forced = workflow.dag_settings.forceall or workflow.dag_settings.forcerun
        return job.inputs if forced or not job.is_settled else []

    return of_job


def spec(stage):
    """The spec of the jobs of a stage, as JSON."""
    return reporting_errors(lambda wildcards: JOBS[stage](wildcards).spec.to_json())


def code(stage):
    """Hash of the code that the jobs of a stage depend on."""
    return reporting_errors(lambda wildcards: JOBS[stage](wildcards).code)


def memory_of(stage, default):
    """Memory of the jobs of a stage in MB, doubled with each attempt."""

    @reporting_errors
    def of_attempt(wildcards, attempt):
        return memory_mb(JOBS[stage](wildcards).spec, default) * 2 ** (attempt - 1)

    return of_attempt


@reporting_errors
def tested_first(wildcards):
    """Features of the test images, which are extracted first. Each model can then be scored and deleted before the next
    training starts."""
    job = JOBS["extract_features"](wildcards)
    if wildcards.view == "test" or job.is_settled:
        return []
    return [PLAN.extract(wildcards.backbone, wildcards.dataset, wildcards.category, "test").spec.features]


def remove_levels_with_meta():
    """Deletes the levels next to a temporary meta.json when Snakemake deletes it."""
    remove_meta = workflow.dag.handle_temp

    async def handle_temp(job):
        await remove_meta(job)
        for meta in map(Path, {*job.input, *job.output}):
            if meta.name == Path(PATHS.features).name and not meta.exists():
                shutil.rmtree(meta.parent, ignore_errors=True)

    if not BENCH.config.keep_features:
        workflow.dag.handle_temp = handle_temp
