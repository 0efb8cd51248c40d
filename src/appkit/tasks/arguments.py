"""Arguments: a task's parameters. Arguments are checked when a task is enqueued, and validated when the task runs."""

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_json
from taskiq_dependencies import DependencyGraph

from appkit.exceptions import AppKitError


class InvalidArguments(Exception):
    """The row's arguments don't fit the task's signature, so the task is dead. The message quotes no values."""

    code = "TASK_ARGUMENTS_INVALID"


class Arguments:
    """A task's parameters, except the parameters that Taskiq injects.

    Raises:
        AppKitError: When an annotation can't be resolved, or its type can't be read from JSON.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as exc:
            raise AppKitError(
                f"An annotation of task {name!r} can't be resolved: {exc}. Define the type at the top of a module."
            ) from exc
        graph = DependencyGraph(function)
        injected = {found.param_name for task in graph.ordered_deps[-1:] for found in graph.dependencies[task]}
        declared = signature(function)
        self._signature = declared.replace(
            parameters=[parameter for parameter in declared.parameters.values() if parameter.name not in injected]
        )
        self._types = {each: self._type(each, hints.get(each, Any)) for each in self._signature.parameters}

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `AppKitError` if an argument is missing or unknown."""
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise AppKitError(f"Task {self._name!r} can't be called like this: {exc}.") from None

    def load(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Convert the arguments to their annotated types, or raise `InvalidArguments`.

        If the signature allows this, all arguments are returned by name.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise InvalidArguments(f"The arguments don't fit the task: {exc}.") from None
        for name, value in bound.arguments.items():
            match self._signature.parameters[name].kind:
                case Parameter.VAR_POSITIONAL:
                    bound.arguments[name] = tuple(self._load(name, item) for item in value)
                case Parameter.VAR_KEYWORD:
                    bound.arguments[name] = {key: self._load(name, item) for key, item in value.items()}
                case _:
                    bound.arguments[name] = self._load(name, value)
        kinds = {parameter.kind: name for name, parameter in self._signature.parameters.items()}
        if kinds.keys() & {Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL}:
            return list(bound.args), bound.kwargs
        named = dict(bound.arguments)  # By name, because injected parameters may stand between these.
        return [], named | named.pop(kinds.get(Parameter.VAR_KEYWORD, ""), {})

    def _load(self, name: str, value: Any) -> Any:
        try:
            return self._types[name].validate_json(to_json(value))
        except ValidationError as exc:
            complaints = "; ".join(
                f"{'.'.join(map(str, (name, *error['loc'])))}: {error['msg']}"
                for error in exc.errors(include_input=False, include_url=False, include_context=False)
            )
            raise InvalidArguments(f"The arguments don't fit the task: {complaints}.") from None

    def _type(self, name: str, annotation: Any) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(annotation)
        except PydanticUserError as exc:
            raise AppKitError(
                f"Parameter {name!r} of task {self._name!r} has a type that can't be read from JSON. "
                "Pass an id or a pydantic model, or let Taskiq inject the value."
            ) from exc
