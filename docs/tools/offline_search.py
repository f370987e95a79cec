"""Hook of MkDocs: search that works from a folder (``file://``), where pages may not read files or start workers.

The index of the built-in search becomes a script, which the page of results loads like any other.
"""

from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def on_post_build(config: Any) -> None:
    """Replace the scripts of the built-in search by one that loads the index as a script."""
    folder = Path(config.site_dir) / "search"
    lunr, index = (folder / "lunr.js").read_text(), (folder / "search_index.json").read_text()
    (folder / "index.js").write_text(f"{lunr}\nconst searchIndex = {index};\n")
    (folder / "main.js").write_text((HERE / "offline_search.js").read_text())
    for name in ("lunr.js", "search_index.json", "worker.js"):
        (folder / name).unlink()
