"""Provenance: seeds by name, fingerprints of code."""

from hypothesis import given
from hypothesis import strategies as st

from nfbench.core.provenance import derive_seed, fingerprint, provenance

NAMES = st.lists(st.one_of(st.integers(0, 99), st.text("abc", max_size=3)), max_size=4)


@given(NAMES)
def test_seed_is_a_63_bit_integer_that_depends_on_the_names(names):
    assert derive_seed(*names) == derive_seed(*names)
    assert 0 <= derive_seed(*names) < 2**63
    assert derive_seed(*names) != derive_seed(*names, "more")


def test_seed_is_the_same_on_every_machine():
    assert derive_seed(0, "one-class", "mvtec_ad", "bottle") == 8288899009032256475


def test_fingerprint_covers_the_parts_it_names():
    assert fingerprint("blocks") != fingerprint("metrics")
    assert fingerprint("blocks", "metrics") != fingerprint("blocks")
    assert len(fingerprint("plan/cells.py")) == 12


def test_provenance_names_versions_and_hardware():
    found = provenance()
    assert found["packages"]["torch"].startswith("2.")
    assert found["cpu"]
    assert found["python"].count(".") == 2
