"""The field types of `appkit add entity`, and the code that each type generates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldType:
    """The code that a field type generates."""

    python: str
    """The Python type in the model and in responses."""
    unset: str
    """The default in the update schema. This value means "not sent", and is never stored."""
    sample: str
    """A JSON value for tests."""
    change: str
    """Another JSON value for tests."""
    column: str = ""
    """The SQLAlchemy type, if the Python type doesn't imply it."""
    accepts: str = ""
    """The type in requests, if requests accept fewer values."""


TYPES = {
    "str": FieldType("str", '""', '"A few words"', '"Other words"', "String(200)", "Line"),
    "text": FieldType("str", '""', '"A paragraph."', '"Another paragraph."', "Text", "Prose"),
    "int": FieldType("int", "0", "7", "8"),
    "float": FieldType("float", "0.0", "1.5", "2.5"),
    "bool": FieldType("bool", "False", "True", "False"),
    "date": FieldType("date", "date.min", '"2026-03-01"', '"2026-03-02"'),
    "datetime": FieldType("datetime", "datetime.min", '"2026-03-01T09:30:00Z"', '"2026-03-02T09:30:00Z"'),
    "uuid": FieldType(
        "UUID", "UUID(int=0)", '"00000000-0000-0000-0000-000000000007"', '"00000000-0000-0000-0000-000000000008"'
    ),
}
