"""What `appkit add entity` was asked for: names, fields, and what each becomes in a model, a schema and a test."""

import keyword
import re
from dataclasses import dataclass
from functools import cached_property

from appkit.exceptions import AppKitError


@dataclass(frozen=True)
class FieldType:
    """What a kind of field becomes."""

    python: str
    """Its type in a model and in an answer."""
    unset: str
    """A value that stands for "left out" in a change; never written."""
    sample: str
    """JSON for a test."""
    change: str
    """Other JSON for a test."""
    column: str = ""
    """Its SQLAlchemy type, where the annotation doesn't say it."""
    accepts: str = ""
    """Its type in a request, where that is narrower."""


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
    """One of the entity's fields, as in `title:str` or `subtitle:str?`."""

    name: str
    kind: str
    optional: bool = False

    @classmethod
    def parse(cls, text: str) -> "Field":
        """Read a field.

        Raises:
            AppKitError: When it has no name that Python takes, or no type that we know.
        """
        name, _, kind = text.partition(":")
        optional = kind.endswith("?")
        kind = kind.removesuffix("?")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in TAKEN:
            raise AppKitError(f"{name!r} can't be a field. Use a noun in lower case, as in `title:str`.")
        if kind not in TYPES and (kind != OWNER or optional):
            raise AppKitError(
                f"{text!r} has no type that can be made here. There are {', '.join(TYPES)}, each with a ? where it may "
                f"be missing, and {OWNER} for whom it belongs to. Others are for you to write into the files made."
            )
        return cls(name, kind, optional)

    @property
    def owns(self) -> bool:
        """Whether this is whom the entity belongs to."""
        return self.kind == OWNER

    @property
    def type(self) -> FieldType:
        """What its kind becomes."""
        return TYPES[self.kind]

    @property
    def column(self) -> str:
        """Its line in the model."""
        if self.owns:
            key = f'ForeignKey("{OWNER}.id", ondelete="CASCADE"), index=True'
            return f"{self.name}_id: Mapped[UUID] = mapped_column({key})"
        declared = f"{self.name}: Mapped[{self._or_none(self.type.python)}]"
        return f"{declared} = mapped_column({self.type.column})" if self.type.column else declared

    @property
    def input(self) -> str:
        """Its line in what creates one."""
        return f"{self.name}: {self._or_none(self._accepts)}" + (" = None" if self.optional else "")

    @property
    def change(self) -> str:
        """Its line in what changes one."""
        return f"{self.name}: {self._or_none(self._accepts)} = {'None' if self.optional else self.type.unset}"

    @property
    def output(self) -> str:
        """Its line in an answer."""
        return f"{self.name}_id: UUID" if self.owns else f"{self.name}: {self._or_none(self.type.python)}"

    @property
    def _accepts(self) -> str:
        return self.type.accepts or self.type.python

    def _or_none(self, annotation: str) -> str:
        return f"{annotation} | None" if self.optional else annotation


@dataclass(frozen=True)
class Entity:
    """A table to be, with its rules, routes and tests."""

    name: str
    fields: tuple[Field, ...]

    @classmethod
    def parse(cls, name: str, fields: list[str]) -> "Entity":
        """Read an entity.

        Raises:
            AppKitError: When its name is none that a class can have, or a field is wrong or there twice.
        """
        if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or keyword.iskeyword(name):
            raise AppKitError(f"{name!r} can't name a class. Use a noun in the singular, as in `Post`.")
        parsed = tuple(map(Field.parse, fields))
        names = [field.name for field in parsed]
        if not [field for field in parsed if not field.owns]:
            raise AppKitError("An entity needs a field of its own, as in `title:str`.")
        if len({*names}) < len(names) or len([field for field in parsed if field.owns]) > 1:
            raise AppKitError("Each field is there once, and at most one says whom the entity belongs to.")
        return cls(name, parsed)

    @cached_property
    def snake(self) -> str:
        """As a variable: `blog_post`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.name).lower()

    @property
    def file(self) -> str:
        """As a module."""
        return self.snake

    @property
    def plural(self) -> str:
        """As a variable that holds several: `blog_posts`."""
        if re.search(r"[^aeiou]y$", self.snake):
            return f"{self.snake[:-1]}ies"
        return f"{self.snake}es" if re.search(r"(s|x|z|ch|sh)$", self.snake) else f"{self.snake}s"

    @property
    def path(self) -> str:
        """In a URL: `blog-posts`."""
        return self.plural.replace("_", "-")

    @property
    def words(self) -> str:
        """In a sentence: `blog post`."""
        return self.snake.replace("_", " ")

    @property
    def plural_words(self) -> str:
        """In a sentence: `blog posts`."""
        return self.plural.replace("_", " ")

    @property
    def plural_title(self) -> str:
        """At the beginning of a sentence: `Blog posts`."""
        return self.plural_words.capitalize()

    @property
    def sentence(self) -> str:
        """What one is, as far as a generator can tell."""
        article = "An" if self.words[0] in "aeiou" else "A"
        return f"{article} {self.words}."

    @property
    def constant(self) -> str:
        """What tests call the JSON of one."""
        return self.snake.upper()

    @property
    def owner(self) -> Field | None:
        """The field that says whom it belongs to."""
        return next((field for field in self.fields if field.owns), None)

    @property
    def writable(self) -> list[Field]:
        """What callers choose."""
        return [field for field in self.fields if not field.owns]

    @property
    def required(self) -> Field | None:
        """A field that nobody may leave out."""
        return next((field for field in self.writable if not field.optional), None)

    @property
    def column_types(self) -> list[str]:
        """What the model imports from SQLAlchemy."""
        names = {field.type.column.partition("(")[0] for field in self.writable} - {""}
        return sorted(names | ({"ForeignKey"} if self.owner else set()))

    @property
    def text_types(self) -> list[str]:
        """What the schemas import from ours."""
        return sorted({field.type.accepts for field in self.writable} - {""})

    @property
    def model_imports(self) -> list[str]:
        """What the model imports from the standard library."""
        used = {field.type.python for field in self.writable}
        dates = sorted(used & {"date", "datetime"})
        lines = [f"from datetime import {', '.join(dates)}"] if dates else []
        return [*lines, "from uuid import UUID"] if self.owner or "UUID" in used else lines

    @property
    def schema_imports(self) -> list[str]:
        """What the schemas import from `datetime`."""
        dates = {"datetime"} | ({field.type.python for field in self.writable} & {"date"})
        return [f"from datetime import {', '.join(sorted(dates))}"]

    @property
    def sample(self) -> str:
        """A request for tests."""
        return "{" + ", ".join(f'"{field.name}": {field.type.sample}' for field in self.writable) + "}"

    @property
    def sample_change(self) -> str:
        """A change for tests."""
        field = self.writable[0]
        return f'{{"{field.name}": {field.type.change}}}'
