"""Runs that lost their tags, damaged records, and servers that are not MLflow's."""

import itertools
import json
import time

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.tracking import store as store_module
from nfbench.tracking.store import Store
from tests.datasets.test_hostile_servers import END, LENGTH, OK, chunked, drip, headers, serving
from tests.tracking.test_mirror import CELL, made, study, track, tracked, write_study  # noqa: F401 a fixture

pytestmark = pytest.mark.slow

LOST = ["nfbench.kind", "nfbench.digest", "nfbench.state", "nfbench.results_root", "mlflow.parentRunId"]
KEYS = [f"run {CELL}", "study one-class/mvtec_ad/bottle/fastflow-wide", "experiment made_up"]
TRIAL = "trial one-class/mvtec_ad/bottle/fastflow-wide#0"


def lose(found, key, *tags):
    run = found.run(key)
    for tag in tags:
        if tag in run.data.tags:
            found.client.delete_tag(run.info.run_id, tag)


@pytest.mark.parametrize("tags", [*([tag] for tag in LOST), LOST], ids=" ".join)
def test_runs_without_their_tags_are_named_and_made_again(made, tags):  # noqa: F811
    assert track().exit_code == 0
    before = tracked()
    for key in (*KEYS, TRIAL):
        lose(before, key, *tags)
    done = track()
    assert done.exit_code == 0, done.exception
    after = tracked()
    assert after.ids.keys() == before.ids.keys()
    assert after.content == before.content
    lost = [tag for tag in tags if tag.startswith("nfbench")]
    named = [line for line in done.output.splitlines() if "has lost its tags" in line]
    assert bool(named) == bool(lost)
    assert all(line.isprintable() for line in named)
    assert track().exit_code == 0
    assert tracked().ids == after.ids


def test_values_of_tags_that_are_garbled_are_put_right(made):  # noqa: F811
    assert track().exit_code == 0
    before = tracked()
    for key, tag in itertools.product(KEYS, ["nfbench.digest", "nfbench.state"]):
        before.client.set_tag(before.run(key).info.run_id, tag, "\x00 garbled")
    assert track().exit_code == 0
    assert tracked().content == before.content


def test_a_damaged_study_stops_nothing_else(made):  # noqa: F811
    write_study(made, {**study(), "best": 5})
    done = track()
    assert isinstance(done.exception, NfbenchError)
    assert str(done.exception).startswith("all but 1 of 'made_up' are tracked: ")
    assert "study.json: 'best'" in str(done.exception)
    assert f"run {CELL}" in tracked().ids
    write_study(made, study())
    assert track().exit_code == 0
    assert KEYS[1] in tracked().ids


def answering(body: bytes) -> bytes:
    return headers(LENGTH.strip() % len(body), b"Content-Type: application/json", body=body)


SERVERS = {
    "nothing": b"",
    "noise": b"\x00\xff\x13" * 100,
    "no JSON": answering(b"<html>log in</html>"),
    "a list": answering(b"[]"),
    "a number": answering(b"5"),
    "deep JSON": answering(b"[" * 100_000),
    "an odd experiment": answering(json.dumps({"experiments": [{"experiment_id": []}]}).encode()),
    "experiments of numbers": answering(json.dumps({"experiments": 5}).encode()),
    "a length of a superscript": headers(b"Content-Length: \xb2"),
    "a redirect to itself": headers(b"Location: /health", status=b"302 Found"),
    "401": headers(status=b"401 Unauthorized"),
    "404": headers(status=b"404 Not Found"),
    "chunks of words": chunked(b"many\r\n"),
    "a body that stalls": OK + LENGTH % 10**6 + b"\r\n{",
    "a body that drips": drip(OK + LENGTH % 10**6 + b"\r\n", b" "),
    "headers that drip": drip(OK + b"X: ", b"x"),
    "continue for ever": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    "a body without end": drip(OK + END, b" " * 65536, 0),
}


@pytest.mark.parametrize("name", SERVERS)
def test_an_odd_server_is_named_in_one_line_in_seconds(tmp_path, monkeypatch, name):
    for key, value in (("RETRIES", "1"), ("BACKOFF_FACTOR", "0"), ("BACKOFF_JITTER", "0")):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{'MAX_' * (key == 'RETRIES')}{key}", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(store_module, "_SECONDS", 0.8)
    with serving(SERVERS[name]) as url:
        address = url.removesuffix("/set.tar")
        started = time.monotonic()
        with pytest.raises(NfbenchError) as raised:
            Store(tmp_path, address).connect()
        assert time.monotonic() - started < 10
    line = str(raised.value)
    assert line.startswith(f"MLflow store {address}: ")
    assert "run the same command again" in line
    assert line.isprintable()


def test_each_request_of_a_server_is_limited(monkeypatch):
    monkeypatch.setattr(store_module, "_SECONDS", 0.1)

    class Slow:
        name = "a value"

        def search_runs(self):
            time.sleep(5)

    client = store_module._LimitedClient(Slow())
    assert client.name == "a value"
    with pytest.raises(TimeoutError, match=r"no end within 0\.1 s"):
        client.search_runs()
