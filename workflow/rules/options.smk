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
        **BENCH.dataset(name).model_dump(exclude={"root", "union"}),
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
        reader=BENCH.dataset(source(cell_of(wildcards))).dataset,
        epochs_at_most=1 if BENCH.config.miniature else None,
    )
    return " ".join([named, *settings])


def class_options(wildcards):
    """The images of each class that train_flow is to learn from."""
    return " ".join(
        options(**{"class": name, "features": features, "manifest": manifest})
        for name, features, manifest in zip(classes(wildcards), train_features(wildcards), manifests(wildcards))
    )


def train_features(wildcards):
    """Features of the training images of each class."""
    return [features_of(cell_of(wildcards), "train", category) for category in classes(wildcards)]


def manifests(wildcards):
    """Manifest of each class."""
    return [images_of(cell_of(wildcards), PATHS.manifest, category) for category in classes(wildcards)]


def pseudo_features(wildcards):
    """Pseudo-anomalies of each class that a run is trained on, if they are cached."""
    cell = cell_of(wildcards)
    view = pseudo_view(cell)
    return [features_of(cell, view, category) for category in classes(wildcards)] if view else []


def own_pseudo_features(wildcards):
    """Pseudo-anomalies of the category that is evaluated, if they are cached."""
    cell = cell_of(wildcards)
    view = pseudo_view(cell)
    return features_of(cell, view) if view else []


def real_features(wildcards):
    """Features of the test images, where a variant learns from some of them."""
    anomalies = BENCH.variant(wildcards.method).anomalies
    return features_of(cell_of(wildcards), "test") if anomalies and anomalies.real else []


def anomaly_options(wildcards):
    """What train_flow must know of a variant's anomalies."""
    anomalies = BENCH.variant(wildcards.method).anomalies
    named = options(anomalies=anomalies and anomalies.model_dump_json(), test_features=real_features(wildcards) or None)
    return " ".join([named, *(options(pseudo_features=path) for path in pseudo_features(wildcards))])


def study_record(wildcards):
    """The study in which the settings of a run are searched for, if they are."""
    return str(PATHS.study_of(cell_of(wildcards))) if BENCH.variant(wildcards.method).search else []


def features_code(view):
    """Fingerprint of the code that the features of a view follow from."""
    return fingerprint("backbones", "features", *(["anomalies"] if view.startswith("pseudo-") else []))


def code_of_training(wildcards):
    """Fingerprint of the code that a training follows from."""
    return training_code(anomalies=BENCH.variant(wildcards.method).anomalies is not None)
