"""What studies are made of: the functions that the rules of searches ask."""


def searched(wildcards):
    """A variant with a search; of few trials where all is made small."""
    variant = BENCH.variant(wildcards.method)
    if not BENCH.config.miniature:
        return variant
    few = variant.search.model_copy(update={"trials": min(variant.search.trials, 3), "workers": 1})
    return variant.model_copy(update={"search": few})


def searched_cells(wildcards):
    """Cells of the backbones that a study chooses from."""
    place = (wildcards.setting, wildcards.dataset, wildcards.category, wildcards.method)
    return [Cell(*place, backbone.tag, 0) for backbone in searched(wildcards).search.backbones]


def searched_features(wildcards):
    """Features of the training images, by backbone."""
    return [features_of(cell, "train") for cell in searched_cells(wildcards)]


def judged_features(wildcards):
    """Features of the test images, by backbone, where trials are judged by them."""
    by_likelihood = searched(wildcards).search.objective == "log_likelihood"
    return [] if by_likelihood else [features_of(cell, "test") for cell in searched_cells(wildcards)]


def searched_pseudo_features(wildcards):
    """Pseudo-anomalies, by backbone, where they are cached."""
    views = [(cell, pseudo_view(cell)) for cell in searched_cells(wildcards)]
    return [features_of(cell, view) for cell, view in views if view]


def study_options(wildcards):
    """What create_study must know."""
    cell = searched_cells(wildcards)[0]
    by_backbone = [
        ("features", searched_features(wildcards)),
        ("test_features", judged_features(wildcards)),
        ("pseudo_features", searched_pseudo_features(wildcards)),
    ]
    named = options(
        variant=searched(wildcards).model_dump_json(),
        name=wildcards.method,
        dataset=wildcards.dataset,
        category=wildcards.category,
        reader=BENCH.dataset(source(cell)).dataset,
        manifest=images_of(cell, PATHS.manifest),
        epochs_at_most=1 if BENCH.config.miniature else None,
    )
    return " ".join([named, *(options(**{name: path}) for name, paths in by_backbone for path in paths)])


def workers(wildcards):
    """What the workers of a study leave."""
    count = searched(wildcards).search.workers
    return [PATHS.study(f"worker{number}.json").format(**wildcards) for number in range(count)]
