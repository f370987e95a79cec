"""The page of a model: in Chromium an image is dropped and a decision appears; over HTTP nothing else gets in."""

import base64
import io
import json
import socket
import threading
import time
from contextlib import chdir, contextmanager

import numpy as np
import pytest
import requests
import torch
import uvicorn
from PIL import Image
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.core.errors import NfbenchError
from nfbench.inference import demo as module
from nfbench.inference.decisions import Decisions
from nfbench.inference.demo import Demo, demo_app
from nfbench.inference.images import Given
from nfbench.inference.load import load_model
from nfbench.inference.predict import predict
from nfbench.results.files import ImageScore, read_rows
from tests.browser import Browser
from tests.mlflow_server import free_port

BYTES = {"Content-Type": "application/octet-stream"}
CPU = torch.device("cpu")


@contextmanager
def served(runs, method, folder):
    with chdir(runs.folder):
        model = load_model(runs.of(method), CPU)
        demo = Demo(model, folder, "<b>A & B</b> on fabric")
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(demo_app(demo), host="127.0.0.1", port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/", model
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def fastflow(runs, tmp_path_factory):
    with served(runs, "fastflow", tmp_path_factory.mktemp("demo")) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def image(runs):
    """The most anomalous test image."""
    rows = read_rows(ImageScore, runs.of("fastflow"))
    return (runs.folder / max(rows, key=lambda row: row.paper).image).absolute()


def post(page, content, **headers):
    return requests.post(f"{page}images", data=content, headers={**BYTES, **headers}, timeout=60)


def decide(page, name, rule="sigma", **values):
    return requests.get(f"{page}decisions", params={"image": name, "rule": rule, **values}, timeout=60)


def picture(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def until(browser, condition, seconds=30):
    """Wait until a condition of the page holds."""
    ends = time.monotonic() + seconds
    while not browser.run(condition):
        assert time.monotonic() < ends, f"{condition}: {browser.run('document.body.innerText')}"
        time.sleep(0.05)


def text(browser, identity):
    return browser.run(f"document.getElementById('{identity}').innerText")


def test_decisions_are_those_of_predict(fastflow, image):
    page, model = fastflow
    name = post(page, image.read_bytes()).json()["image"]
    for rule, values in (
        ("sigma", {"sigmas": 0.5}),
        ("sigma", {"sigmas": 8}),
        ("quantile", {"alpha": 0.3}),
        ("nfa", {}),
    ):
        answer = decide(page, name, rule, **values)
        found = answer.json()
        decisions = Decisions.of(model.thresholds, rule, **values)
        (one,) = predict(model, decisions, [Given(str(image), "name.png")])
        assert (found["score"], found["p_value"], found["anomalous"]) == (one.score, one.p_value, one.anomalous)
        assert (found["threshold"], found["pixel_threshold"]) == (decisions.image, decisions.pixel)
        assert (found["regions"], found["area"]) == (len(one.detection.boxes), one.detection.mask.mean())
        np.testing.assert_array_equal(np.array(picture(found["pictures"]["mask"])), one.detection.mask * 255)
        assert set(found["pictures"]) == {"image", "overlay", "heatmap", "mask"}
        assert answer.headers["cache-control"] == "no-store"


def test_changing_the_rule_does_not_score_again(fastflow, image, monkeypatch):
    page, model = fastflow
    name = post(page, image.read_bytes()).json()["image"]
    monkeypatch.setattr(type(model), "locate", lambda *_: pytest.fail("it was scored again"))
    for sigmas in (0, 1, 5):
        assert decide(page, name, sigmas=sigmas).ok


def test_what_is_no_image_is_one_line(fastflow, image, tmp_path):
    page, _ = fastflow
    for content in (b"", b"no image", image.read_bytes()[:200]):
        answer = post(page, content)
        assert answer.status_code == 422
        assert "this file" in answer.json()["error"]
        assert "\n" not in answer.text.strip()
        assert "tmp" not in answer.text
    answer = decide(page, post(page, image.read_bytes()).json()["image"], "conformal", alpha=0.001)
    assert answer.status_code == 422
    assert "too few" in answer.json()["error"]


def test_what_the_page_does_not_ask_is_refused(fastflow, image, monkeypatch):
    page, _ = fastflow
    content = image.read_bytes()
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        for answer in (
            requests.get(page, headers={"Host": host}, timeout=60),
            post(page, content, Host=host),
        ):
            assert answer.status_code == 400, host
    assert requests.get(page, headers={"Host": "localhost:1"}, timeout=60).ok
    for kind in ("text/plain", "image/png", "multipart/form-data", "application/x-www-form-urlencoded"):
        assert post(page, content, **{"Content-Type": kind}).status_code == 415
    assert requests.get(f"{page}images", timeout=60).status_code == 405
    assert requests.get(f"{page}etc/passwd", timeout=60).status_code == 404
    monkeypatch.setattr(module, "LARGEST_UPLOAD", 1 << 20)
    answer = post(page, bytes((1 << 20) + 1))
    assert (answer.status_code, answer.json()["error"]) == (413, "the file is larger than 1 MB")
    name = post(page, content).json()["image"]
    for wrong in ({"rule": "x"}, {"alpha": "nan"}, {"alpha": 0}, {"alpha": 1}, {"sigmas": "inf"}, {"sigmas": "x"}):
        assert decide(page, name, **wrong).status_code == 400, wrong
    assert decide(page, "../../etc/passwd").status_code == 404
    assert "access-control-allow-origin" not in requests.get(page, headers={"Origin": "http://a.b"}, timeout=60).headers


def test_few_images_are_kept(runs, image, tmp_path):
    with served(runs, "fastflow", tmp_path) as (page, _):
        names = [post(page, image.read_bytes()).json()["image"] for _ in range(6)]
        answers = [decide(page, name) for name in names]
        assert [answer.status_code for answer in answers] == [404, 404, 200, 200, 200, 200]
        assert "drop it again" in answers[0].json()["error"]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])
        post(page, b"no image")
        assert len(list(tmp_path.iterdir())) == 4


def test_a_method_without_maps_or_latents_has_a_page(runs, image, tmp_path):
    with served(runs, "padim", tmp_path) as (page, _):
        data = json.loads(requests.get(page, timeout=60).text.split('id="data">')[1].split("</script>")[0])
        assert set(data["rules"]) == {"conformal", "quantile", "sigma"}
        assert data["title"] == "<b>A & B</b> on fabric"
        assert decide(page, post(page, image.read_bytes()).json()["image"], "nfa").status_code == 400
    with chdir(runs.folder):
        demo = Demo(load_model(runs.of("padim"), CPU), tmp_path, "")
    name = demo.add(image.read_bytes())
    kept = demo._kept[name][False]
    demo._kept[name][False] = kept._replace(located=kept.located._replace(maps=None))
    found = demo.decision(name, "sigma", 0.05, 3.0)
    assert (found["regions"], found["area"], set(found["pictures"])) == (None, None, {"image"})


def test_an_image_is_chosen_and_dropped_in_the_browser(browser, fastflow, image, tmp_path):
    page, model = fastflow
    browser.open(page)
    assert browser.errors == []
    assert browser.run("document.querySelector('h1').innerText") == "<b>A & B</b> on fabric"
    assert browser.run("document.getElementById('value').min") == "0.25"  # of three normal images
    browser.choose_file("#file", image)
    until(browser, "!document.getElementById('result').hidden")
    assert image.name in text(browser, "file-name")
    rule = "document.getElementById('rule').value = 'sigma';"
    browser.run(f"{rule} document.getElementById('rule').dispatchEvent(new Event('change'))")
    value = "(v => { const e = document.getElementById('value'); e.value = v; e.dispatchEvent(new Event('input')); })"
    for sigmas, said in ((0, "▲ Anomalous"), (8, "✓ Normal")):
        browser.run(f"{value}({sigmas})")
        threshold = f"{Decisions.of(model.thresholds, 'sigma', sigmas=sigmas).image:.4g}"
        until(browser, f"document.getElementById('numbers').innerText.includes({threshold})")
        assert text(browser, "decision") == said
    assert browser.run("[...document.querySelectorAll('#pictures img')].map(i => i.naturalWidth > 0)") == [True] * 4
    assert browser.run("document.querySelectorAll('#scores circle').length") == 3
    content = base64.b64encode(image.read_bytes()).decode()
    drop = (
        "(async (content, name) => { const data = new DataTransfer();"
        "const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));"
        "data.items.add(new File([bytes], name));"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); })"
    )
    browser.run(f"{drop}({json.dumps(content)}, '<img src=x>.png')")
    until(browser, "document.getElementById('file-name').innerText.startsWith('<img src=x>.png')")
    browser.note_errors(page)
    assert browser.errors == []
    browser.run(f"{drop}(btoa('no image'), 'text.png')")
    until(browser, "!document.getElementById('error').hidden")
    assert "this file" in text(browser, "error")
    browser.choose_file("#file", image)
    until(browser, "document.getElementById('error').hidden")


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_phone_tablet_and_desktop(browser, fastflow, image, width):
    page, _ = fastflow
    browser.open(page, width=width, height=800)
    for _ in range(2):  # without an image, and with one
        assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        small = browser.run(
            "[...document.querySelectorAll('select, #drop, input[type=range]')]"
            ".filter(e => e.getBoundingClientRect().width < 120).length"
        )
        assert small == 0
        browser.choose_file("#file", image)
        until(browser, "!document.getElementById('result').hidden")
    browser.note_errors(page)
    assert browser.errors == []


def test_files_of_the_page_are_part_of_the_package(repository):
    packaged = (repository / "pyproject.toml").read_text()
    assert '"nfbench.inference" = ["*.html", "*.css", "*.js"]' in packaged


def test_a_taken_port_is_said(runs):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["demo", str(runs.of("fastflow")), "--port", str(port)])
    assert isinstance(done.exception, NfbenchError)
    assert f"port {port} is taken; 'nfbench demo --port N'" in str(done.exception)
