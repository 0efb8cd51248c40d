"""JSONOf: a column type for JSON that pydantic validates."""

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator


class JSONOf(TypeDecorator[Any]):
    """A value of a schema, or of another type that pydantic knows, stored as JSON.

        class Person(BaseTableModel):
            address: Mapped[Address] = mapped_column(JSONOf(Address))
            phones: Mapped[list[Phone]] = mapped_column(JSONOf(list[Phone]))

    A value is validated when it is assigned. SQLAlchemy doesn't notice a change inside a value: assign a new value.
    """

    impl = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def validate(self, value: Any) -> Any:
        """The value, converted to the column's type by pydantic."""
        return None if value is None else self._adapter.validate_python(value)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - TypeDecorator's signature
        """Convert to JSON."""
        return None if value is None else self._adapter.dump_python(self.validate(value), mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - TypeDecorator's signature
        """Convert from JSON."""
        return self.validate(value)
