"""The shape of collected data: a user's pydantic model, used field by field while a conversation fills it in."""

from __future__ import annotations

import inspect
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, cast

from turnkeep import codec
from turnkeep.errors import DataIncomplete, InvalidArgument, InvalidData, NotSerializable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic import BaseModel


class Schema:
    """A pydantic model that data is held against before all of it is there.

    Each value is validated as its field says, by the field's own validators too; None is taken for any field and means
    "not there", as does an empty text. Validators of the whole model run when an instance is asked for.

    Raises:
        InvalidArgument: it is not a pydantic model class.
    """

    def __init__(self, model: type[Any]) -> None:
        from pydantic import BaseModel

        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise InvalidArgument(f"a schema is a pydantic model class, not {model!r:.80}")
        self._model: type[BaseModel] = model

    @property
    def fields(self) -> Mapping[str, Any]:
        """The model's fields by name."""
        return self._model.model_fields

    def problems(self, data: Mapping[str, Any]) -> dict[str, str]:
        """Field to what is wrong with its value; empty when every value fits."""
        return self._validate(data)[1]

    def convert(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """The values that fit, as they are to be stored, and what is wrong with the others."""
        return self._validate(data)

    def check_changes(self, previous: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """``data`` with every value that differs from ``previous`` validated and converted.

        What was stored before and stays the same is kept, whether or not the model knows it.

        Raises:
            InvalidData: a new value does not fit, or its key is unknown.
        """
        changed = {key: value for key, value in data.items() if key not in previous or not _same(previous[key], value)}
        converted, problems = self._validate(changed)
        if problems:
            listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
            raise InvalidData(f"the data does not fit {self._model.__name__}: {listed[:500]}", problems=problems)
        return {key: converted.get(key, value) for key, value in data.items()}

    def instance(self, data: Mapping[str, Any]) -> Any:
        """A validated instance. Keys the model does not know are ignored.

        Raises:
            DataIncomplete: required fields are missing.
            InvalidData: a value does not fit.
        """
        from pydantic import ValidationError

        required = [name for name, field in self.fields.items() if field.is_required()]
        lacking = set(missing(required, data))
        known = {
            key: value
            for key, value in data.items()
            if key in self.fields and key not in lacking and (value is not None or self._takes_none(key))
        }
        if lacking:
            raise self._incomplete(required, lacking)
        try:
            return self._model.model_validate(known, by_name=True, by_alias=False)
        except ValidationError as error:
            problems = problems_of(error)
            listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
            # The error's own text shows the values, which may be private.
            raise InvalidData(
                f"the data does not fit {self._model.__name__}: {listed[:500]}", problems=problems
            ) from None

    def _takes_none(self, name: str) -> bool:
        """Whether None is a value of the field; for others it means that nothing is there, and the default holds."""
        from pydantic import ValidationError

        try:
            self._partial.model_validate({name: None}, by_name=True, by_alias=False)
        except ValidationError:
            return False
        return True

    def json_schema(self, names: Iterable[str]) -> dict[str, Any]:
        """JSON schema of an object with these fields."""
        properties = self._json_schema.get("properties", {})
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: properties.get(name, {}) for name in names},
            "additionalProperties": False,
        }
        if "$defs" in self._json_schema:
            schema["$defs"] = self._json_schema["$defs"]
        return schema

    def _incomplete(self, required: list[str], lacking: set[str]) -> DataIncomplete:
        names = [name for name in required if name in lacking]
        return DataIncomplete(f"{self._model.__name__} is not complete: {', '.join(names)} missing", missing=names)

    def _validate(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        problems = {
            str(key)[:80]: f"{self._model.__name__} has no such field; it has {', '.join(self.fields)}"
            for key in data
            if key not in self.fields
        }
        converted: dict[str, Any] = {key: None for key, value in data.items() if value is None and key in self.fields}
        for key, value in data.items():
            if value is None or key not in self.fields:
                continue
            found, wrong = self._validate_one(key, value)
            problems |= wrong
            if not wrong:
                converted[key] = found
        return converted, problems

    def _validate_one(self, name: str, value: Any) -> tuple[Any, dict[str, str]]:
        from pydantic import ValidationError

        try:
            holder = self._partial.model_validate({name: value}, by_name=True, by_alias=False)
        except ValidationError as error:
            return None, {name: next(iter(problems_of(error).values()), "does not fit")}
        try:
            plain = _without_enums(holder.model_dump(include={name})[name])
            codec.encode(plain)
        except NotSerializable:
            return self._in_json_form(name, holder)
        return plain, {}

    def _in_json_form(self, name: str, holder: BaseModel) -> tuple[Any, dict[str, str]]:
        """An Enum, a URL, a path: stored in the form JSON has for it, if the model reads the same value back."""
        from pydantic_core import PydanticSerializationError

        try:
            plain = holder.model_dump(include={name}, mode="json")[name]
            again = self._partial.model_validate({name: plain}, by_name=True, by_alias=False)
            exact = getattr(again, name) == getattr(holder, name)
        except (PydanticSerializationError, ValueError):
            plain, exact = None, False
        return (plain, {}) if exact else (None, {name: "has no form in which it can be stored exactly"})

    @cached_property
    def _json_schema(self) -> dict[str, Any]:
        return self._model.model_json_schema(by_alias=False)

    @cached_property
    def _partial(self) -> type[BaseModel]:
        """The model's fields and their validators, none required, without validators of the whole."""
        from pydantic import ConfigDict, create_model, field_validator

        fields: dict[str, Any] = {
            # With the metadata, because a field's constraints live there and not in its annotation.
            name: (Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation, None)
            for name, field in self._model.model_fields.items()
        }
        # One overload a mode: a mode that is only known at run time fits none of them.
        again = cast("Callable[..., Callable[[Any], Any]]", field_validator)
        validators = {
            name: again(*found.info.fields, mode=found.info.mode, check_fields=False)(_free(found.func))
            for name, found in self._model.__pydantic_decorators__.field_validators.items()
        }
        config = cast(
            "ConfigDict", {**self._model.model_config, "extra": "forbid", "validate_default": False, "frozen": False}
        )
        return create_model(f"{self._model.__name__}Fields", __config__=config, __validators__=validators, **fields)


def _free(validator: Callable[..., Any]) -> Any:
    """A bound validator as a function of its own; pydantic would bind it once more, to the other model."""

    def call(*args: Any) -> Any:
        return validator(*args)

    call.__signature__ = inspect.signature(validator)  # pyright: ignore[reportFunctionMemberAccess] - read by pydantic
    return staticmethod(call)


def missing(names: Iterable[str], data: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the names that are not in the data: absent, None or empty text."""
    return tuple(name for name in names if data.get(name) is None or data[name] == "")


def _without_enums(value: Any) -> Any:
    """The value with the members of Enums replaced by what they stand for."""
    if isinstance(value, Enum):
        return _without_enums(value.value)
    if type(value) is dict:
        return {_without_enums(key): _without_enums(item) for key, item in cast("dict[Any, Any]", value).items()}
    if type(value) in {list, tuple, set, frozenset}:
        return type(value)(map(_without_enums, value))
    return value


def _same(old: Any, new: Any) -> bool:
    """Equal and of one type: True is not 1 here."""
    return type(old) is type(new) and old == new


def problems_of(error: Any) -> dict[str, str]:
    """Field to message, of a pydantic ``ValidationError``; never the values, which may be private."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = item["loc"]
        name = str(place[0]) if place else "the whole"
        inner = ".".join(str(part) for part in place[1:])
        found.setdefault(name, f"{inner}: {item['msg']}" if inner else item["msg"])
    return found
