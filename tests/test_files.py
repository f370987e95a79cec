"""Files: written whole or not at all."""

import os
import socket
import subprocess

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path, read_json, remove_stale, write_json, write_text


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("content", "message"), [(None, "is missing"), ("{", "is not valid JSON")])
def test_bad_json_is_named(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(NfbenchError, match=f"a.json {message}"):
        read_json(path)


def test_only_files_of_dead_processes_are_removed(tmp_path):
    done = subprocess.Popen(["true"])
    done.wait()
    dead = tmp_path / f".a.{socket.gethostname()}.{done.pid}.x.npy"
    alive = tmp_path / f".a.{socket.gethostname()}.{os.getpid()}.x.npy"
    other = tmp_path / "a.npy"
    for path in (dead, alive, other):
        path.touch()
    remove_stale(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, other])


def test_permissions_follow_the_umask(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode
