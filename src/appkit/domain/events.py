"""What happened: facts that services emit and tasks subscribe to."""

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """Something that happened, in the past tense, with the ids of whom it concerns.

    An event is delivered after its transaction has committed, to subscribers of exactly its class.
    Give it ids rather than rows: by the time a subscriber runs, the row may have changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
