"""Provenance: seeds by name, and the machine of a process."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from nfbench.core.provenance import derive_seed, describe_machine, provenance

NAMES = st.lists(st.one_of(st.integers(0, 99), st.text("abc", max_size=3)), max_size=4)


@given(NAMES)
def test_seed_is_a_63_bit_integer_that_depends_on_the_names(names):
    assert derive_seed(*names) == derive_seed(*names)
    assert 0 <= derive_seed(*names) < 2**63
    assert derive_seed(*names) != derive_seed(*names, "more")


def test_seed_is_the_same_on_every_machine():
    assert derive_seed(0, "one-class", "mvtec_ad", "bottle") == 8288899009032256475


def test_provenance_names_versions_and_hardware():
    found = provenance()
    assert found["packages"]["torch"].startswith("2.")
    assert found["cpu"]
    assert found["python"].count(".") == 2


def test_a_process_that_computed_on_the_cpu_says_so_also_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    found = provenance(torch.device("cpu"))
    assert (found["device"], found["gpu"], found["threads"]) == ("cpu", None, torch.get_num_threads())
    assert describe_machine({**found, "cpu": "a CPU", "threads": 2}) == "CPU a CPU, 2 threads"
    found = provenance(torch.device("cuda"))
    assert (found["device"], describe_machine(found)) == ("cuda", "GPU Some GPU")


def test_a_stage_that_computes_on_no_device_names_none():
    assert (provenance()["device"], provenance()["gpu"]) == (None, None)
