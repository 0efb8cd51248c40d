"""E-mail addresses: parsing, normalisation, and the key by which two addresses are the same."""

from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email


@dataclass(frozen=True)
class EmailAddress:
    """An e-mail address in the two forms that an account keeps.

    Args:
        address: As typed, with a normalised domain; mail goes here.
        key: The unique form: ASCII and lower case.
    """

    address: str
    key: str


def parse_email(text: str) -> EmailAddress:
    """Parse an e-mail address, without checking by DNS whether the domain exists.

    Only ASCII is accepted before the @. Unicode's case and compatibility rules map different letters to the same one
    (`ß` to `ss`, the Kelvin sign to `k`), so that one person's address could become another's.

    Raises:
        ValueError: When it isn't an e-mail address, with a sentence for the user.
    """
    try:
        found = validate_email(text.strip(), allow_smtputf8=False, check_deliverability=False)
    except EmailNotValidError:
        raise ValueError("Enter an e-mail address such as name@example.com.") from None
    return EmailAddress(found.normalized, (found.ascii_email or found.normalized).lower())
