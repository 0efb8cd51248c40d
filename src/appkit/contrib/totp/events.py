"""What happened to somebody's second factor: for an audit trail, and to tell them."""

from uuid import UUID

from appkit import Event


class TotpEnabled(Event):
    """Someone set an authenticator app up, which signing in asks for from now on."""

    user_id: UUID


class TotpDisabled(Event):
    """Someone removed their authenticator app; the password alone will do again."""

    user_id: UUID


class RecoveryCodesRenewed(Event):
    """Someone asked for new recovery codes, with which the old ones are void."""

    user_id: UUID


class RecoveryCodeUsed(Event):
    """Someone signed in with a recovery code: they may have lost the app, or somebody else may have the code."""

    user_id: UUID
    left: int
    """How many they have still."""


class SecondFactorFailed(Event):
    """Someone who knows the password gave a wrong code, which the owner may want to hear of."""

    user_id: UUID
