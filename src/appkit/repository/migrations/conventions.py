"""What a model says that no migration can do."""

from collections.abc import Iterator

from sqlalchemy import CheckConstraint, MetaData, PrimaryKeyConstraint


def find_faults(metadata: MetaData) -> Iterator[str]:
    """Constraints that a migration would lose, or couldn't name when it drops them."""
    for table in metadata.sorted_tables:
        of_columns = [(column, constraint) for column in table.columns for constraint in column.constraints]
        for column, constraint in of_columns:
            if isinstance(constraint, CheckConstraint):
                yield f"move the CHECK of {column} to its table, for migrations lose a column's own"
        for constraint in table.constraints - {constraint for _, constraint in of_columns}:
            # A name that a convention couldn't make is no string.
            if not isinstance(constraint.name, str) and not isinstance(constraint, PrimaryKeyConstraint):
                kind = type(constraint).__name__.removesuffix("Constraint")
                about = ", ".join(column.name for column in getattr(constraint, "columns", ()))
                yield f"name the {kind} constraint of {table.fullname}{f' ({about})' if about else ''}"
