"""Errors of the operating system: one line that names the path, in every command, and a log that cannot be written."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from nfbench import cli
from nfbench.core.errors import NfbenchError, one_line, system_error

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full or /proc")


def run(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nfbench", *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, check=False, **options)


def main(monkeypatch, capsys, *arguments) -> str:
    """Return the error of a failing command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["nfbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1, said
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    return said


@LINUX
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file/check.json", "{0}/file, for {0}/file/check.json: File exists; a file is where a folder has to be"),
        ("file/deep/check.json", "Not a directory; a file is where a folder has to be"),
        ("folder", "{0}/folder: Is a directory; a folder is where a file has to be"),
        ("x" * 300, "File name too long; take a shorter name"),
        ("x" * 300 + "/check.json", "File name too long; take a shorter name"),
        ("a." + "x" * 300, "{0}, for {0}/a.xxx"),
        ("/proc/self/check.json", "/proc/self, for /proc/self/check.json: No such file or directory"),
        ("/proc/nfbench/check.json", "/proc/nfbench/check.json: No such file or directory"),
    ],
)
def test_an_output_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys, output, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    said = main(monkeypatch, capsys, "data", "list", "--output", tmp_path / output)
    assert message.format(tmp_path) in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EROFS, "a/b: Read-only file system; take a folder that can be written to"),
        (errno.EACCES, "a/b: Permission denied; change its permissions"),
        (errno.EIO, "a/b: Input/output error"),
        (errno.EMFILE, "a/b: Too many open files; raise the limit"),
    ],
)
def test_any_error_of_the_system_is_one_line(monkeypatch, capsys, number, message):
    def fails(*_):
        raise OSError(number, os.strerror(number), "a/b")

    monkeypatch.setattr("nfbench.datasets._sources.read_sources", fails)
    assert message in main(monkeypatch, capsys, "data", "list")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_one_line(monkeypatch, capsys, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("nfbench.datasets._sources.read_sources", fails)
    assert "error: out of memory: " in main(monkeypatch, capsys, "data", "list")


@pytest.mark.parametrize("where", ["data_root", "log"])
def test_folders_that_are_files_are_named(tmp_path, monkeypatch, capsys, where):
    (tmp_path / "file").touch()
    options = {
        "data_root": ["data", "fetch", "btad", "--data-root", tmp_path / "file"],
        "log": ["--log", tmp_path / "file/x.log", "data", "list"],
    }
    assert f"{tmp_path}/file" in main(monkeypatch, capsys, *options[where])


@LINUX
def test_a_log_on_a_full_disk_is_one_warning_and_the_command_goes_on():
    done = run("--log", "/dev/full", "data", "list")
    assert done.returncode == 0
    assert "mvtec_ad" in done.stdout
    assert done.stderr.strip() == "warning: log /dev/full: [Errno 28] No space left on device"


@LINUX
def test_an_error_is_one_line_where_the_log_is_on_a_full_disk(tmp_path):
    done = run("--log", "/dev/full", "data", "check", "folder", "--root", tmp_path / "none")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["warning", "error"]


def test_the_trace_is_in_the_log(tmp_path):
    (tmp_path / "file").touch()
    done = run("--log", tmp_path / "x.log", "data", "list", "--output", tmp_path / "file/x.json")
    assert done.returncode == 1
    log = (tmp_path / "x.log").read_text()
    assert "Traceback" in log
    assert "FileExistsError" in log
    assert " ERROR " in log


@LINUX
def test_a_full_disk_behind_the_standard_output_is_no_trace():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nfbench", "data", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "No space left on device; free some space" in done.stderr


def test_another_system_than_posix_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(cli.os, "name", "nt")
    assert "nfbench runs on Linux and macOS" in main(monkeypatch, capsys, "data", "list")


def test_errors_without_a_number_keep_their_text():
    assert str(system_error(OSError("cannot identify\nimage file"))) == "cannot identify image file"
    assert str(system_error(OSError())) == "OSError"
    assert isinstance(system_error(OSError(errno.EIO, "x")), NfbenchError)
    assert one_line("a\x1bb" + "c" * 500) == "a?b" + "c" * 297
