"""E-mail addresses: parsing and normalisation."""

from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email


@dataclass(frozen=True)
class EmailAddress:
    """An e-mail address, in two forms."""

    address: str
    """The address as typed, with a normalised domain. Mail is sent to this form."""
    key: str
    """The address in ASCII and lower case. Two addresses with the same key belong to the same account."""


def parse_email(text: str) -> EmailAddress:
    """Parse an e-mail address. DNS isn't asked whether the domain exists.

    Only ASCII is accepted before the @. Unicode maps some different letters to the same one, such as the Kelvin sign to
    `k`. Then two people's addresses would have the same key.

    Raises:
        ValueError: When the text is no e-mail address. The message is for the user.
    """
    try:
        found = validate_email(text.strip(), allow_smtputf8=False, check_deliverability=False)
    except EmailNotValidError:
        raise ValueError("Enter an e-mail address such as name@example.com.") from None
    return EmailAddress(found.normalized, (found.ascii_email or found.normalized).lower())
