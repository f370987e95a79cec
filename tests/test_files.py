"""Files are written atomically."""

import os
import socket
import subprocess

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path, read_json, remove_stale, remove_tree, write_json, write_text


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("\0", "is not valid JSON"),
    ],
)
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


def test_processes_are_known_where_there_is_no_proc(tmp_path, monkeypatch):
    alive = tmp_path / f".a.{socket.gethostname()}.{os.getppid()}.x.npy"
    alive.touch()
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)  # as where the system has no /proc
    remove_stale(tmp_path)
    assert os.path.exists(alive)


@pytest.mark.parametrize("name", ["x" * 251 + ".txt", "ü" * 125 + ".txt"])
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    write_text(tmp_path / name, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    write_text(tmp_path / "a.txt", "x")
    assert done == ["fsync", "replace"]


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, atomic_path(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()
    assert raised.value.filename == str(tmp_path / "other")
    assert not list(tmp_path.iterdir())


def test_deep_folders_are_removed_and_links_are_not_followed(tmp_path):
    """Deeper than Python recurses."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    deep = tmp_path / "tree" / "/".join("a" * 1500)
    os.makedirs(tmp_path / "tree")
    folder = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=folder)
        inner = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    (deep / "link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]
