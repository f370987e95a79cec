"""From scores and maps to ``run.json`` and the files next to it."""

import shutil
from pathlib import Path

from nfbench.config import condition_of
from nfbench.core import scratch
from nfbench.core.device import peak_memory_mb, pick_device
from nfbench.core.errors import NfbenchError, required
from nfbench.core.files import atomic_path, remove_stale, remove_tree
from nfbench.core.progress import progress
from nfbench.core.seals import known_files, read_sealed, verified, write_sealed
from nfbench.datasets._drawn import draw, drawn_entries
from nfbench.datasets._manifest import read_manifest, view_entries
from nfbench.plan.origin import require_origin
from nfbench.plan.paths import EVALUATED, SCORED
from nfbench.plan.specs import EvaluateSpec
from nfbench.results.artifacts import write_artifacts
from nfbench.results.compose import Evaluated, compose_record
from nfbench.results.files import Epoch, read_rows
from nfbench.results.record import write_record
from nfbench.results.scored import (
    COPIED,
    ScoringRecord,
    load_scored,
    load_variances,
    tested_entries,
    training_of,
)
from nfbench.results.thresholds import THRESHOLDS, ThresholdsRecord
from nfbench.scoring.evaluate import GroundTruth
from nfbench.scoring.protocol import measure

__all__ = ["evaluate_run"]


def evaluate_run(spec: EvaluateSpec, threads: int | None = None) -> None:
    """Measures the scores of each kept model, writes the run record, and deletes scores and maps."""
    require_origin(spec)
    where = pick_device("cpu", threads)
    run, trained, folder = Path(spec.run), Path(spec.trained), Path(spec.run, SCORED).parent
    training, scoring = training_of(spec.trained, spec.cell), read_sealed(ScoringRecord, run / SCORED)
    if scoring.spec.cell != spec.cell:
        raise NfbenchError(f"{run / SCORED} has the scores of {scoring.spec.cell}, not of {spec.cell}; score again")
    entries = read_manifest(spec.manifest)
    images = view_entries(entries, condition_of(spec.cell.condition).test_view)
    left_out = draw(entries, spec.cell.condition, spec.cell.seed).left_out
    truth = GroundTruth(list(tested_entries(training, images, spec.manifest, left_out).values()))
    history = read_rows(Epoch, trained)
    by_epoch: dict[int, dict[str, float | None]] = {}
    for epoch in progress(scoring.epochs, total=len(scoring.epochs), label=f"evaluate {spec.cell}"):
        scored = measure(load_scored(scoring, folder, epoch), truth, spec.metrics, folder)
        by_epoch[epoch] = scored.evaluation.metrics
    if spec.save_maps and scored.test.maps is None:
        raise NfbenchError(
            f"'save_maps' is true for {spec.cell}, but method '{training.method_title}' has no maps; set it to false"
        )
    remove_stale(run)
    write_artifacts(run, scored, images, load_variances(scoring, folder))
    normal = drawn_entries(entries, draw(entries, spec.cell.trained.condition, spec.cell.seed))
    thresholds = ThresholdsRecord.of(scored.source, scored.normal, normal, scored.test.maps)
    write_sealed(run / THRESHOLDS, thresholds)
    for name in COPIED:
        with atomic_path(run / name) as temporary:
            shutil.copyfile(verified(folder / name, run / SCORED), temporary)
    if spec.save_maps:
        with atomic_path(run / "maps.npy") as temporary:
            scratch.save(temporary, required(scored.test.maps, "the maps"))
    written = known_files(run, [*EVALUATED[1:], *(["maps.npy"] if spec.save_maps else [])])
    found = Evaluated(spec, training, history, scoring, by_epoch, scored)
    write_record(run / "run.json", compose_record(found, peak_memory_mb(where), written))
    remove_tree(folder)
