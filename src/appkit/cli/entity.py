"""The entity of `appkit add entity`: parses its name and fields, and provides the templates' variables."""

import keyword
import re
from dataclasses import dataclass
from functools import cached_property

from appkit.exceptions import AppKitError


@dataclass(frozen=True)
class FieldType:
    """The code that a field type generates."""

    python: str
    """The Python type in the model and in responses."""
    unset: str
    """The default in the update schema, which means "not sent" and is never written."""
    sample: str
    """A JSON value for tests."""
    change: str
    """Another JSON value for tests."""
    column: str = ""
    """The SQLAlchemy type, if the Python type doesn't imply it."""
    accepts: str = ""
    """The type in requests, if it is narrower."""


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
OWNER = "user"
TAKEN = frozenset({"id", "created_at", "updated_at", "metadata", "registry"})


@dataclass(frozen=True)
class Field:
    """A field of the entity, as in `title:str` or `subtitle:str?`."""

    name: str
    kind: str
    optional: bool = False

    @classmethod
    def parse(cls, text: str) -> "Field":
        """Parse a field.

        Raises:
            AppKitError: When its name is invalid or reserved, or its type unknown.
        """
        name, _, kind = text.partition(":")
        optional = kind.endswith("?")
        kind = kind.removesuffix("?")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in TAKEN:
            raise AppKitError(
                f"{name!r} is not a valid field name, or is reserved. Use a noun in lower case, as in `title:str`."
            )
        if kind not in TYPES and (kind != OWNER or optional):
            raise AppKitError(
                f"{text!r} has an unknown type. Use {', '.join(TYPES)}, with a ? if it is optional, or {OWNER} for "
                "its owner. For other types, edit the generated files."
            )
        return cls(name, kind, optional)

    @property
    def owns(self) -> bool:
        """Whether this field is the entity's owner."""
        return self.kind == OWNER

    @property
    def type(self) -> FieldType:
        """The code that the field's type generates."""
        return TYPES[self.kind]

    @property
    def column(self) -> str:
        """The line in the model."""
        if self.owns:
            key = f'ForeignKey("{OWNER}.id", ondelete="CASCADE"), index=True'
            return f"{self.name}_id: Mapped[UUID] = mapped_column({key})"
        declared = f"{self.name}: Mapped[{self._or_none(self.type.python)}]"
        return f"{declared} = mapped_column({self.type.column})" if self.type.column else declared

    @property
    def input(self) -> str:
        """The line in the create schema."""
        return f"{self.name}: {self._or_none(self._accepts)}" + (" = None" if self.optional else "")

    @property
    def change(self) -> str:
        """The line in the update schema."""
        return f"{self.name}: {self._or_none(self._accepts)} = {'None' if self.optional else self.type.unset}"

    @property
    def output(self) -> str:
        """The line in the response schema."""
        return f"{self.name}_id: UUID" if self.owns else f"{self.name}: {self._or_none(self.type.python)}"

    @property
    def _accepts(self) -> str:
        return self.type.accepts or self.type.python

    def _or_none(self, annotation: str) -> str:
        return f"{annotation} | None" if self.optional else annotation


@dataclass(frozen=True)
class Entity:
    """An entity to generate: a model with its service, routes and tests."""

    name: str
    fields: tuple[Field, ...]

    @classmethod
    def parse(cls, name: str, fields: list[str]) -> "Entity":
        """Parse an entity.

        Raises:
            AppKitError: When its name is no class name, or a field is invalid or given twice.
        """
        if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or keyword.iskeyword(name):
            raise AppKitError(f"{name!r} is not a valid class name. Use a noun in the singular, as in `Post`.")
        parsed = tuple(map(Field.parse, fields))
        names = [field.name for field in parsed]
        if not [field for field in parsed if not field.owns]:
            raise AppKitError("An entity needs at least one field besides its owner. Add one, as in `title:str`.")
        if len({*names}) < len(names) or len([field for field in parsed if field.owns]) > 1:
            raise AppKitError(f"Give each field once, and at most one field of type {OWNER}.")
        return cls(name, parsed)

    @cached_property
    def snake(self) -> str:
        """The name as a variable: `blog_post`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.name).lower()

    @property
    def file(self) -> str:
        """The name of the entity's modules."""
        return self.snake

    @property
    def plural(self) -> str:
        """The plural as a variable: `blog_posts`."""
        if re.search(r"[^aeiou]y$", self.snake):
            return f"{self.snake[:-1]}ies"
        return f"{self.snake}es" if re.search(r"(s|x|z|ch|sh)$", self.snake) else f"{self.snake}s"

    @property
    def path(self) -> str:
        """The plural in a URL: `blog-posts`."""
        return self.plural.replace("_", "-")

    @property
    def words(self) -> str:
        """The name in a sentence: `blog post`."""
        return self.snake.replace("_", " ")

    @property
    def plural_words(self) -> str:
        """The plural in a sentence: `blog posts`."""
        return self.plural.replace("_", " ")

    @property
    def plural_title(self) -> str:
        """The plural at the start of a sentence: `Blog posts`."""
        return self.plural_words.capitalize()

    @property
    def words_with_article(self) -> str:
        """The name in a sentence, with its article: `a blog post`."""
        return f"{'an' if self.words[0] in 'aeiou' else 'a'} {self.words}"

    @property
    def sentence(self) -> str:
        """The name as a docstring, with a full stop, as in `A blog post.`."""
        return f"{self.words_with_article.capitalize()}."

    @property
    def constant(self) -> str:
        """The name of the constant in tests: `BLOG_POST`."""
        return self.snake.upper()

    @property
    def owner(self) -> Field | None:
        """The field of the entity's owner, if the entity has one."""
        return next((field for field in self.fields if field.owns), None)

    @property
    def writable(self) -> list[Field]:
        """The fields that requests may set."""
        return [field for field in self.fields if not field.owns]

    @property
    def required(self) -> Field | None:
        """A field that requests must set, if there is one."""
        return next((field for field in self.writable if not field.optional), None)

    @property
    def column_types(self) -> list[str]:
        """The names that the model imports from SQLAlchemy."""
        names = {field.type.column.partition("(")[0] for field in self.writable} - {""}
        return sorted(names | ({"ForeignKey"} if self.owner else set()))

    @property
    def text_types(self) -> list[str]:
        """The names that the schemas import from `api.schemas`."""
        return sorted({field.type.accepts for field in self.writable} - {""})

    @property
    def model_imports(self) -> list[str]:
        """The import lines of the model from the standard library."""
        used = {field.type.python for field in self.writable}
        dates = sorted(used & {"date", "datetime"})
        lines = [f"from datetime import {', '.join(dates)}"] if dates else []
        return [*lines, "from uuid import UUID"] if self.owner or "UUID" in used else lines

    @property
    def schema_imports(self) -> list[str]:
        """The import lines of the schemas from `datetime`."""
        dates = {"datetime"} | ({field.type.python for field in self.writable} & {"date"})
        return [f"from datetime import {', '.join(sorted(dates))}"]

    @property
    def sample(self) -> str:
        """The JSON of a create request in tests."""
        return "{" + ", ".join(f'"{field.name}": {field.type.sample}' for field in self.writable) + "}"

    @property
    def sample_change(self) -> str:
        """The JSON of an update request in tests."""
        field = self.writable[0]
        return f'{{"{field.name}": {field.type.change}}}'
