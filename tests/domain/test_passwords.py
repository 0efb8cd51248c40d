"""Passwords are accepted unchanged, or refused with a reason."""

import pytest

from appkit.domain.password_policy import common_passwords, complaints


@pytest.mark.parametrize(
    "password",
    ["83751926", " leading and trailing ", "correct horse battery staple", "пароль-пароль", "🐎🔋🖇️" * 8, "x" * 128],
)
def test_complaints_are_empty_for_acceptable_passwords(password):
    assert complaints(password, min_length=8) == []


@pytest.mark.parametrize(
    ("password", "complaint"),
    [
        ("1234567", "Use at least 8 characters."),
        ("x" * 129, "Use at most 128 characters."),
        ("with a NUL \0", "Leave out characters that can't be sent as text."),
        ("surrogate \ud800", "Leave out characters that can't be sent as text."),
        ("PassWord1", "Choose another: this password is among the first that are tried."),
        ("Ada@Example.com", "Don't use your e-mail address or the app's name."),
    ],
)
def test_complaints_say_what_to_change(password, complaint):
    assert complaints(password, min_length=8, forbidden=["ada@example.com"]) == [complaint]


def test_common_passwords_are_many_and_long_enough_to_be_typed():
    """OWASP ASVS 6.2.4 requires 3,000 common passwords that the policy accepts otherwise."""
    words = common_passwords()
    assert len(words) == 5000
    assert {"12345678", "password", "iloveyou"} <= words
    assert all(len(word) >= 8 and word == word.lower() for word in words)
