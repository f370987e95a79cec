"""What tests of tracking share."""

import pytest

from nfbench.tracking.store import Store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A store without runs; to make one takes seconds, to copy it none."""
    store = Store(tmp_path_factory.mktemp("store"))
    store.connect()
    return store.database
