"""Options of the commands, from configuration and wildcards."""


def options(**values):
    """Command line options, quoted; those that are None are left out."""
    given = {name.replace("_", "-"): value for name, value in values.items() if value is not None}
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in given.items())


def commas(numbers):
    """Numbers as a command takes them; None stays None."""
    return numbers and ",".join(map(str, numbers))


def dataset_options(wildcards):
    """What prepare_data must know of a dataset."""
    name = wildcards.dataset
    given = options(
        root=dataset_root(BENCH, name),
        **BENCH.dataset(name).model_dump(exclude={"root"}),
    )
    return f"{given} --miniature" if is_miniature(BENCH, name) else given


def check_options(wildcards):
    """What check_data must know of a dataset."""
    dataset = BENCH.dataset(wildcards.dataset)
    return f"{dataset.dataset} {options(root=dataset_root(BENCH, wildcards.dataset), stride=dataset.stride)}"


def fetched_data(wildcards):
    """The record of a download that comes before a dataset is read: with 'fetch: true', where it is not there."""
    return [FETCHED.format(reader=reader) for reader in to_fetch(BENCH, wildcards.dataset)]


def backbone_options(wildcards):
    """What extract_features must know of a backbone."""
    backbone = BENCH.backbones[wildcards.backbone]
    given = options(
        backbone=backbone.name,
        input_size=backbone.input_size,
        levels=commas(backbone.levels),
        scales=commas(backbone.scales),
        interpolation=backbone.interpolation,
        padding=backbone.padding,
        rotations=backbone.rotations,
        weights=backbone.weights,
    )
    flags = {"--pooled": backbone.pooled, "--image": backbone.image, "--online": backbone.online}
    return " ".join([given, *(flag for flag, on in flags.items() if on)])


def method_options(wildcards):
    """What train_flow must know of a method or variant."""
    variant = BENCH.variant(wildcards.method)
    settings = [f"--set {shlex.quote(f'{key}={value}')}" for key, value in variant.settings.items()]
    title = variant.title or (wildcards.method if wildcards.method in BENCH.variants else None)
    named = options(
        method=variant.method,
        variant=wildcards.method,
        title=title,
        reader=BENCH.dataset(wildcards.dataset).dataset,
        epochs_at_most=1 if BENCH.config.miniature else None,
    )
    return " ".join([named, *settings])


def anomaly_features(wildcards):
    """Options and files of the features that a variant's anomalies come from."""
    anomalies = BENCH.variant(wildcards.method).anomalies
    views = {
        "pseudo-features": pseudo_view(wildcards),
        "test-features": "test" if anomalies and anomalies.real else None,
    }
    return {
        name: PATHS.features.replace("{view}", view).format(**dict(wildcards.items()))
        for name, view in views.items()
        if view
    }


def anomaly_options(wildcards):
    """What train_flow must know of a variant's anomalies."""
    anomalies = BENCH.variant(wildcards.method).anomalies
    return options(anomalies=anomalies and anomalies.model_dump_json(), **anomaly_features(wildcards))


def features_code(view):
    """Fingerprint of the code that the features of a view follow from."""
    return fingerprint("backbones", "features", *(["anomalies"] if view.startswith("pseudo-") else []))


def training_code(wildcards):
    """Fingerprint of the code that a training follows from."""
    anomalies = ["anomalies"] if BENCH.variant(wildcards.method).anomalies else []
    return fingerprint("flows", "methods", "training", "features/online.py", *anomalies)
