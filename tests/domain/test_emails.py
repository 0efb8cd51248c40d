"""E-mail addresses: different spellings of the same address have the same key."""

import pytest

from appkit.domain.emails import parse_email


@pytest.mark.parametrize(
    ("typed", "address", "key"),
    [
        ("ada@example.com", "ada@example.com", "ada@example.com"),
        ("Ada.L@EXAMPLE.com", "Ada.L@example.com", "ada.l@example.com"),
        (" ada@example.com ", "ada@example.com", "ada@example.com"),
        ("ada@bücher.de", "ada@bücher.de", "ada@xn--bcher-kva.de"),
    ],
)
def test_parse_email_returns_the_address_and_its_unique_key(typed, address, key):
    parsed = parse_email(typed)
    assert (parsed.address, parsed.key) == (address, key)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ada",
        "ada@localhost",
        "a b@example.com",
        '"ada"@example.com',
        "ada@[127.0.0.1]",
        "Ada <ada@example.com>",
        "ada\0@example.com",
        "\ud800@example.com",
        "ß@example.com",
        "\u212aai@example.com",  # The Kelvin sign, which NFC makes a K.
        "ada\uff20example.com",  # The full-width at sign.
        f"ada@{'a.' * 200}com",
    ],
)
def test_parse_email_refuses_confusable_addresses(typed):
    with pytest.raises(ValueError, match=r"^Enter an e-mail address such as name@example\.com\.$"):
        parse_email(typed)
