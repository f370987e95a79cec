"""What tables and figures are made of: the functions that the rules of results ask."""


def owner(kind, name):
    """The experiment that defines a table or a figure."""
    return BENCH.owner(kind, name).name


def table_config(name):
    """What a table is to show."""
    return BENCH.owner("tables", name).tables[name]


def page_parts():
    """Template, style sheet and scripts of the report's page, for its fingerprint."""
    return [f"report/{name}" for name in ("report.html", "report.css", "elements.js", "charts.js", "sections.js")]


def results_of_table(name):
    """The results that a table shows; none where it counts parameters."""
    if table_config(name).kind == "parameters":
        return []
    return PATHS.experiment(owner("tables", name), "results.parquet")


def table_spec(name):
    """All of the configuration that a table follows from."""
    config = table_config(name)
    counted = config.rows if config.kind == "parameters" else ()
    return " ".join(part.model_dump_json() for part in [config, *(BENCH.variant(row.method) for row in counted)])


def table_code(name):
    """Fingerprint of the code that a table follows from; where it counts parameters, the models are part of that."""
    models = ("methods", "blocks", "backbones") if table_config(name).kind == "parameters" else ()
    return fingerprint("tables", "results/compare.py", "reference", *models)


def figure_spec(name):
    """All of the configuration that a figure follows from."""
    return BENCH.owner("figures", name).figures[name].model_dump_json()
