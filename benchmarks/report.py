"""Size, build time and loading time of the report of a large made-up experiment.

It has 12 methods, 15 categories, 3 backbones and 5 seeds.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nfbench.core.registry import plugin_names
from tests.browser import Browser
from tests.made_up import MadeUp

BACKBONES = ("resnet18.tv_in1k", "wide_resnet50_2.tv_in1k", "tf_efficientnet_b4.ns_jft_in1k")


def main():
    """Writes the records, builds the page, and opens it in Chromium at desktop and phone width."""
    methods = {name: name for name in plugin_names("nfbench.methods")[:11]}
    methods["fastflow-wide"] = "fastflow"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = MadeUp(folder, methods, backbones=BACKBONES, seeds=5, images=True).write()
        started = time.perf_counter()
        command = [sys.executable, "-m", "nfbench", "report"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        page = made.paths.report("made_up")
        seconds = time.perf_counter() - started
        print(f"{len(made.cells)} runs: {page.stat().st_size / 1e6:.1f} MB, built in {seconds:.1f} s")
        browser = Browser(folder / "profile")
        for width in (1280, 390):
            seconds = sorted(browser.open(page, width) for _ in range(3))[1]
            print(f"opened and rendered {width} pixels wide in {seconds:.2f} s, errors: {browser.errors or 'none'}")
        browser.close()


if __name__ == "__main__":
    main()
