"""Models whose keys depend on ``kind``. Each kind is a plug-in: one file with its model."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic import GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import exported, nearest, plugin_names

__all__ = ["Kind"]


class Kind(Model):
    """Base of all kinds of one package; validates values with the model of the kind that they name.

    The model of a kind derives from this class and has a field ``kind``, a literal with the name of its file.

    Attributes:
        package: package that contains the kinds.
        attribute: name of the model in a kind's module.
        default_kind: kind of values that do not name one.
        example: keys of an example, for the schema and for tests that build every kind.
    """

    package: ClassVar[str]
    attribute: ClassVar[str]
    default_kind: ClassVar[str | None] = None
    example: ClassVar[Mapping[str, Any]] = {}

    @property
    def shows_latency(self) -> bool:
        """Whether the latency per image is shown; it is measured only in that case."""
        return False

    @property
    def module(self) -> str:
        """Name of the module that defines the kind."""
        return type(self).__module__

    @classmethod
    def of_kind(cls, kind: str) -> type[Self]:
        """Return the model of a kind.

        Raises:
            NfbenchError: the kind is unknown, and the message suggests the nearest name; or its file lacks the model.
        """
        model: type[Self] = exported(cls.package, kind, cls.attribute, subclass_of=cls)
        if "kind" not in model.model_fields or model.model_fields["kind"].default != kind:
            file = f"{cls.package.replace('.', '/')}/{kind}.py"
            raise NfbenchError(f'{file}: {model.__name__} needs the field \'kind: Literal["{kind}"] = "{kind}"\'')
        return model

    @classmethod
    def meant_by(cls, values: Any) -> type[Self]:
        """Return the model of the kind that values name; this class if they name none."""
        if "kind" in cls.model_fields or not isinstance(values, Mapping):
            return cls
        kind = values.get("kind", cls.default_kind)
        return cls.of_kind(kind) if kind in plugin_names(cls.package) else cls

    @model_validator(mode="wrap")
    @classmethod
    def _by_kind(cls, values: Any, handler: Callable[[Any], Self]) -> Self:
        if (model := cls.meant_by(values)) is not cls:
            return model.model_validate(values)
        if "kind" in cls.model_fields or not isinstance(values, Mapping):
            return handler(values)
        kind, known = values.get("kind"), plugin_names(cls.package)
        what = f"unknown kind '{kind}'{nearest(str(kind), known)}" if kind else f"missing; known: {', '.join(known)}"
        fault: InitErrorDetails = {
            "type": PydanticCustomError("unknown_kind", "{what}", {"what": what}),
            "loc": ("kind",),
            "input": kind,
        }
        raise ValidationError.from_exception_data(cls.__name__, [fault])

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of all kinds, each with its own keys."""
        if "kind" in cls.model_fields:
            return handler(core_schema)
        found = []
        for kind in plugin_names(cls.package):
            model = cls.of_kind(kind)
            schema = {**handler(model.__pydantic_core_schema__), "examples": [{"kind": kind, **model.example}]}
            if kind != cls.default_kind:
                schema["required"] = ["kind", *schema.get("required", ())]
            found.append(schema)
        return {"oneOf": found}
