"""Fixtures for tests of tracking."""

import socket

import pytest

from nfbench.tracking.store import Store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A store without runs, next to the leftovers of a killed import; copying it is faster than creating one."""
    store = Store(tmp_path_factory.mktemp("store"))
    (store.folder / f".mlflow.{socket.gethostname()}.999999999.x.db").write_text("half of a database")
    store.connect()
    return store.database
