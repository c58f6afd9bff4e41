"""Frozen values (recipes, methods, specifications) to JSON and back, and their hash.

A value is a frozen dataclass whose fields hold str, int, float, bool, None, tuples, or other
values. Each is written with its class name under "type", and only classes that the reader names
are ever built: no import and no code follows from what a file says.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from coview.core.errors import InvalidValue, UnknownName, UnknownValue
from coview.core.files import digest
from coview.core.plain import KINDS, number, plain_number

Value = TypeVar("Value")

LATER: Mapping[str, bool] = types.MappingProxyType({"coview.later": True})
"""Metadata of a field that a class got after values of it were written to files."""


def encode(value: Any, *, all_fields: bool = False) -> Any:
    """The JSON form of ``value``.

    A field with the metadata ``LATER`` is left out at its default, so that a value keeps the hash
    that it had before its class had the field; ``all_fields`` writes it, for people.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Blur:
    ...     sigma: float = 1.0
    ...     share: float = dataclasses.field(default=0.5, metadata=LATER)
    >>> encode(Blur()), encode(Blur(), all_fields=True)["share"], encode(Blur(share=0.1))["share"]
    ({'type': 'Blur', 'sigma': 1.0}, 0.5, 0.1)
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: encode(getattr(value, field.name), all_fields=all_fields)
            for field in dataclasses.fields(value)
            if all_fields or not (_is_later(field) and getattr(value, field.name) == field.default)
        }
        return {"type": type(value).__name__, **fields}
    if isinstance(value, (tuple, list)):
        return [encode(item, all_fields=all_fields) for item in value]
    value = plain_number(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise InvalidValue(f"A recipe holds plain values only; {value!r} is a {type(value).__name__}.")


def _is_later(field: dataclasses.Field[Any]) -> bool:
    return all(field.metadata.get(key) == value for key, value in LATER.items())


def decode(data: Any, known: Iterable[type]) -> Any:
    """The value whose JSON form is ``data``; its classes must all be in ``known``.

    Raises UnknownValue for a class and UnknownName for a field that is not known, InvalidValue for
    a field that is missing or of another type.
    """
    classes = {cls.__name__: cls for cls in known}

    def build(node: Any) -> Any:
        if isinstance(node, list):
            return tuple(build(item) for item in node)
        if not isinstance(node, dict):
            return node
        name = node.get("type", "")
        if name not in classes:
            raise UnknownValue(str(name), classes)
        fields = {key: build(item) for key, item in node.items() if key != "type"}
        check_fields(classes[name], fields)
        return classes[name](**fields)

    return build(data)


def check_fields(cls: Any, values: Mapping[str, Any]) -> None:
    """Raise UnknownName or InvalidValue unless ``cls`` can be built of fields with these values."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    types_of = _field_types(cls)
    for name, value in values.items():
        if name not in fields:
            raise UnknownName(f"field of {cls.__name__}", name, fields)
        if not fits(value, types_of[name]):
            raise InvalidValue(
                f"The field {name!r} of {cls.__name__} is {_shown(value)}; expected "
                f"{in_words(types_of[name])}."
            )
    for name, field in fields.items():
        no_default = field.default is field.default_factory is dataclasses.MISSING
        if no_default and name not in values:
            raise InvalidValue(f"The {cls.__name__} has no field {name!r}, which it needs.")


def fits(value: Any, annotation: Any) -> bool:
    """Whether ``value``, as :func:`decode` builds it, is of the annotated type.

    A whole number fits a float; a number that is not finite fits nothing.

    >>> fits(1, float | None), fits((1, 2), tuple[int, ...]), fits(True, int), fits("a", int)
    (True, True, False, False)
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple and isinstance(value, tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if annotation in (int, float):
        is_number = isinstance(value, int | annotation) and not isinstance(value, bool)
        return is_number and -math.inf < value < math.inf
    return isinstance(value, annotation) if isinstance(annotation, type) else annotation is Any


def in_words(annotation: Any) -> str:
    """The annotated type as a message names it.

    >>> in_words(int | None), in_words(Literal["sgd", "lars"])
    ('a whole number or null', "'sgd' or 'lars'")
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(in_words, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} values "
        return f"a list of {count}({', '.join(in_words(a) for a in arguments if a is not ...)})"
    if annotation is type(None):
        return "null"
    return KINDS.get(annotation) or f"a {getattr(annotation, '__name__', annotation)}"


def misfit(value: Any, kind: Any, name: str = "", *, partial: bool = False) -> str:
    """What of a JSON value is not as ``kind`` has it, in words; "" where all is.

    ``kind``: a TypedDict, list[...], dict[str, ...] or what :func:`fits` takes. Fields that a
    TypedDict does not name are free; ``partial``: it may lack any of its fields.

    >>> print(misfit({"images": [1, "a"]}, dict[str, list[int]], "data"))
    `data.images.1` is "a"; expected a whole number
    """
    if kind is Any:
        return ""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    inner: list[tuple[str, Any, Any]] = []
    if typing.is_typeddict(kind) and isinstance(value, dict):
        missing = [] if partial else sorted(kind.__required_keys__ - value.keys())
        if missing:
            return f"`{_below(name, missing[0])}` is missing"
        hints = typing.get_type_hints(kind)
        inner = [(key, value[key], hint) for key, hint in hints.items() if key in value]
    elif origin is list and isinstance(value, list):
        inner = [(str(place), item, arguments[0]) for place, item in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        inner = [(key, item, arguments[1]) for key, item in value.items()]
    elif origin in (typing.Union, types.UnionType):
        if all(misfit(value, option) for option in arguments):
            return f"`{name}` is {json.dumps(value)[:60]}; expected {_json_words(kind)}"
    elif typing.is_typeddict(kind) or not fits(value, kind):
        return f"`{name}` is {json.dumps(value)[:60]}; expected {_json_words(kind)}"
    faults = (misfit(item, hint, _below(name, key), partial=partial) for key, item, hint in inner)
    return next(filter(None, faults), "")


def _json_words(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_json_words, typing.get_args(kind)))
    if typing.is_typeddict(kind) or origin is dict or kind is dict:
        return "an object"
    return "a list" if origin is list else in_words(kind)


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _shown(value: Any) -> str:
    """The value in a message: a text as JSON writes it, of an object its class."""
    if dataclasses.is_dataclass(value):
        return f"a {type(value).__name__}"
    return json.dumps(encode(value))


def decode_one(data: Any, kind: type[Value]) -> Value:
    """The value of class ``kind`` whose JSON form is ``data``.

    Raises InvalidValue where ``data`` is no such object, UnknownName for a field not known.
    """
    value = decode(data, [kind])
    if not isinstance(value, kind):
        raise InvalidValue(f"A {kind.__name__} is written as a JSON object; got {data!r}.")
    return value


def fingerprint(value: Any) -> str:
    """The hash by which a value is named in results: of its canonical JSON."""
    return digest(json.dumps(encode(value), sort_keys=True, allow_nan=False).encode())


def set_fields(value: Value, changes: Mapping[str, Any]) -> Value:
    """A copy of ``value`` with the fields at dotted paths replaced, all of them at once.

    A number in a path is a place in a tuple. Raises UnknownName for a field that is not there.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Blur:
    ...     sigma: tuple[float, float] = (0.1, 2.0)
    >>> set_fields(Blur(), {"sigma.1": 1.5})
    Blur(sigma=(0.1, 1.5))
    """
    here: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for path, to in changes.items():
        name, _, rest = path.partition(".")
        check_field(value, name)
        if rest:
            below.setdefault(name, {})[rest] = to
        else:
            here[name] = to
    here |= {name: set_fields(field_of(value, name), inner) for name, inner in below.items()}
    if isinstance(value, tuple):
        items = [here.get(str(place), item) for place, item in enumerate(value)]
        return typing.cast(Value, tuple(items))
    return typing.cast(Value, dataclasses.replace(typing.cast(Any, value), **here))


def parse_setting(value: Any, setting: str, known: Iterable[type]) -> tuple[str, Any]:
    """(path, typed value) of "path.of.field=text" for the frozen value ``value``.

    The text is read by the field's type; "none" is None, tuples are separated by commas, a value
    of a class in ``known`` is written as JSON. Raises InvalidValue, or UnknownName with the nearest
    field.
    """
    path, equals, text = setting.partition("=")
    if not (path and equals):
        raise InvalidValue(
            f"`set` is {setting!r}; expected FIELD=VALUE, such as method.objective.temperature=0.2."
        )
    *parents, name = path.split(".")
    owner = value
    for parent in parents:
        check_field(owner, parent)
        owner = field_of(owner, parent)
    check_field(owner, name)
    return path, parse_as(field_type(owner, name), text, path, known)


def check_field(owner: Any, name: str) -> None:
    """Raise UnknownName unless ``owner`` has the field, or the place, ``name``.

    The message names the path of a field ``name`` below ``owner``, where there is one.
    """
    names = _field_names(owner)
    if not names and not isinstance(owner, tuple):
        raise InvalidValue(f"{owner!r} has no field {name!r}: it is a plain value.")
    if name not in names:
        below = next(_paths_to(owner, name), "")
        raise UnknownName(f"field of {type(owner).__name__}", name, names, meant=below)


def _field_names(owner: Any) -> list[str]:
    if isinstance(owner, tuple):
        return [str(place) for place in range(len(owner))]
    is_value = dataclasses.is_dataclass(owner)
    return [field.name for field in dataclasses.fields(owner)] if is_value else []


def _paths_to(owner: Any, name: str) -> Iterator[str]:
    """The dotted paths of the fields ``name`` of ``owner`` and below."""
    for each in _field_names(owner):
        if each == name:
            yield each
        yield from (f"{each}.{path}" for path in _paths_to(field_of(owner, each), name))


def field_of(owner: Any, name: str) -> Any:
    """The field ``name``, or the item at that place of a tuple."""
    return owner[int(name)] if isinstance(owner, tuple) else getattr(owner, name)


def field_type(owner: Any, name: str) -> Any:
    """The declared type of a field; of an item of a tuple that of the item."""
    if isinstance(owner, tuple):
        return type(owner[int(name)])
    return _field_types(type(owner))[name]


def _field_types(cls: Any) -> dict[str, Any]:
    """The declared types of the fields; Any where a class of a user names what is not global."""
    try:
        return typing.get_type_hints(cls)
    except NameError:
        return dict.fromkeys((field.name for field in dataclasses.fields(cls)), Any)


def parse_as(annotation: Any, text: str, path: str, known: Iterable[type]) -> Any:
    """``text`` as a value of the annotated type. Raises InvalidValue.

    >>> parse_as(float | None, "none", "x", ()), parse_as(tuple[float, float], "0.2,1", "x", ())
    (None, (0.2, 1.0))
    """
    known = tuple(known)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        options = [option for option in arguments if option is not type(None)]
        return _first_that_fits(options, text, path, known)
    if origin is Literal:
        matches = [choice for choice in arguments if str(choice) == text]
        if not matches:
            raise UnknownName(f"value of {path}", text, map(str, arguments))
        return matches[0]
    if origin is tuple:
        kinds = [arguments[0]] * len(text.split(",")) if arguments[-1] is Ellipsis else arguments
        parts = text.split(",")
        if len(parts) != len(kinds):
            raise InvalidValue(f"{path} is {text!r}; expected {len(kinds)} values and commas.")
        return tuple(parse_as(k, p.strip(), path, known) for k, p in zip(kinds, parts, strict=True))
    if annotation is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidValue(f"{path} is {text!r}; expected true or false.")
        return text.lower() == "true"
    if annotation in (int, float):
        return _number(annotation, text, path)
    return text if annotation is str else _object(annotation, text, path, known)


def _first_that_fits(options: list[Any], text: str, path: str, known: tuple[type, ...]) -> Any:
    errors: list[InvalidValue | UnknownName] = []
    for option in options:
        try:
            return parse_as(option, text, path, known)
        except (InvalidValue, UnknownName) as error:
            errors.append(error)
    raise errors[-1]


def _number(kind: type, text: str, path: str) -> int | float:
    try:
        return number(kind, text)
    except ValueError:
        raise InvalidValue(f"{path} is {text!r}; expected {KINDS[kind]}.") from None


def _object(annotation: Any, text: str, path: str, known: tuple[type, ...]) -> Any:
    try:
        value = decode(json.loads(text), known)
    except json.JSONDecodeError:
        value = None
    if isinstance(annotation, type) and isinstance(value, annotation):
        return value
    name = getattr(annotation, "__name__", str(annotation))
    raise InvalidValue(
        f"{path} is {text!r}; expected a {name} as JSON, as `coview recipes NAME` prints it."
    )
