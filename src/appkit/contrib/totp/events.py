"""Events about a user's second factor, for an audit trail and for notifications."""

from uuid import UUID

from appkit import Event


class TotpEnabled(Event):
    """A user set up an authenticator app; signing in needs a code from now on."""

    user_id: UUID


class TotpDisabled(Event):
    """A user removed their authenticator app; the password alone is enough again."""

    user_id: UUID


class RecoveryCodesRenewed(Event):
    """A user got new recovery codes; the old ones are void."""

    user_id: UUID


class RecoveryCodeUsed(Event):
    """A recovery code was used: the user may have lost the app, or somebody else may have the code."""

    user_id: UUID
    left: int
    """How many codes are left."""


class SecondFactorFailed(Event):
    """A sign-in with the right password gave a wrong code. Consider notifying the user."""

    user_id: UUID
