"""JSON columns that hold what pydantic can check."""

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine


class JSONOf(TypeDecorator[Any]):
    """JSON that is written from, and read back as, a schema or any other type that pydantic knows.

        class Person(BaseTableModel):
            address: Mapped[Address] = mapped_column(JSONOf(Address))
            phones: Mapped[list[Phone]] = mapped_column(JSONOf(list[Phone]))

    What is assigned is checked at once, so that a row that was just made says the same as one that is read.
    A change within a value goes unnoticed: assign a new one.

    Args:
        kind: The type.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__(none_as_null=True)
        self.kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def validate(self, value: Any) -> Any:
        """As the type, from all that pydantic takes for it.

        Raises:
            ValidationError: Pydantic's, when it takes it for something else.
        """
        return None if value is None else self._adapter.validate_python(value)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """JSONB where there is one."""
        return dialect.type_descriptor(
            JSONB(none_as_null=True) if dialect.name == "postgresql" else JSON(none_as_null=True)
        )

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - asked for
        """As JSON."""
        return None if value is None else self._adapter.dump_python(self.validate(value), mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - asked for
        """As the type."""
        return self.validate(value)
