"""E-mail addresses: what is one, and when two are the same."""

from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email


@dataclass(frozen=True)
class EmailAddress:
    """An address in the two forms an account keeps.

    Args:
        address: As it was typed, its domain normalised: mail goes here.
        key: What makes it unique: all ASCII, all lower case.
    """

    address: str
    key: str


def parse_email(text: str) -> EmailAddress:
    """Read an address, without asking the network whether its domain exists.

    Before the @ only ASCII is taken. Unicode's case and compatibility rules map different letters onto
    the same one (`ß` onto `ss`, the Kelvin sign onto `k`), with which one person's address becomes another's.

    Raises:
        ValueError: When it isn't one, in a sentence for the person who typed it.
    """
    try:
        found = validate_email(text.strip(), allow_smtputf8=False, check_deliverability=False)
    except EmailNotValidError:
        raise ValueError("Enter an e-mail address such as name@example.com.") from None
    return EmailAddress(found.normalized, (found.ascii_email or found.normalized).lower())
