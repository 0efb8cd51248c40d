"""Keys that are derived from secrets."""

import pytest

from appkit.core.keys import KeyRing, derive, sign, verify
from appkit.exceptions import AppKitError

SECRETS = (b"n" * 32, b"o" * 32)


def test_derive_is_hkdf_sha256():
    """Compare with extract and expand of RFC 5869, with appkit's salt."""
    import hashlib
    import hmac

    extracted = hmac.new(b"appkit", SECRETS[0], hashlib.sha256).digest()
    expanded = hmac.new(extracted, b"purpose\x01", hashlib.sha256).digest()
    assert derive(SECRETS[0], "purpose") == expanded
    assert derive(SECRETS[0], "purpose", length=4) == expanded[:4]


def test_key_ring_signs_with_the_first_and_verifies_with_all():
    ring, previous = KeyRing(SECRETS), KeyRing(SECRETS[1:])
    assert ring.current == ring.get(ring.current.id) != previous.current
    assert ring.get(previous.current.id) == previous.current
    assert previous.get(ring.current.id) is None


def test_key_ring_has_a_key_for_each_purpose_and_hides_them_in_its_repr():
    key = KeyRing(SECRETS).current
    assert len({key.access, key.refresh, key.device, *SECRETS}) == 5
    assert key.access.hex() not in repr(key)
    assert repr(key.access) not in repr(key)


def test_key_ring_needs_a_secret():
    with pytest.raises(AppKitError, match="AUTH_SECRET_KEYS"):
        KeyRing(())


@pytest.mark.parametrize("signed", [b"", b"short", sign(b"k" * 32, b"other"), sign(b"x" * 32, b"payload")])
def test_verify_refuses_other_payloads_and_keys(signed):
    assert verify(b"k" * 32, sign(b"k" * 32, b"payload"))
    assert not verify(b"k" * 32, b"payload" + signed[-32:])
