"""What tests of tracking share."""

import socket

import pytest

from nfbench.tracking.store import Store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A store without runs, made beside what a killed import left; to make one takes seconds, to copy it none."""
    store = Store(tmp_path_factory.mktemp("store"))
    (store.folder / f".mlflow.{socket.gethostname()}.999999999.x.db").write_text("half of a database")
    store.connect()
    return store.database
