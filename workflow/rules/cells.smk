"""Where the things of a cell lie: its images and features, what it is trained on, and what is made for it."""

@cache
def sources(dataset):
    """Datasets that a union's categories come from."""
    return members(BENCH, dataset, available)


def source(cell, category=None):
    """The dataset that a category's images are in: the cell's own, or where that is a union, one of its datasets."""
    return sources(cell.dataset).get(category or cell.category, cell.dataset)


def images_of(cell, template, category=None, **values):
    """A file of a category's images; a union shares those of its datasets."""
    place = {"dataset": source(cell, category), "category": category or cell.category}
    return template.format(**{**vars(cell), **place, **values})


def features_of(cell, view, category=None):
    """Cached features of a category."""
    return images_of(cell, PATHS.features, category, view=view)


def cell_of(wildcards):
    """The cell of a job on a run."""
    names = ("setting", "dataset", "category", "method", "backbone")
    return Cell(*(wildcards[name] for name in names), seed=int(wildcards.seed))


@reporting_errors
def classes(wildcards):
    """Categories that the model of a run is trained on."""
    return classes_of(BENCH, cell_of(wildcards), available)


def trained(wildcards, file):
    """A file of the training that a run evaluates."""
    return PATHS.run(file).format(**vars(cell_of(wildcards).trained))


def pseudo_view(cell):
    """Name of the view of pseudo-anomalies that a cell is trained on, None without."""
    anomalies = BENCH.variant(cell.method).anomalies
    return anomalies and anomalies.view(cell.seed)


def made_for(cell):
    """All that is made for a cell, so that whatever of it is deleted is made again."""
    views = ["train", "test", *filter(None, [pseudo_view(cell)])]
    return [
        images_of(cell, PATHS.manifest),
        *(features_of(cell, view) for view in views),
        *([PATHS.study_of(cell)] if BENCH.variant(cell.method).search else []),
        *(PATHS.run(file).format(**vars(cell.trained)) for file in TRAINED),
        *(PATHS.run(file).format(**vars(cell)) for file in EVALUATED),
    ]
