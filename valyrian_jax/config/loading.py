"""Configurations from TOML and command-line overrides, and back.

No default is hidden: a `Config` written with `config_to_toml` and read again gives the same run.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from valyrian_jax.config.schema import Config, DataConfig
from valyrian_jax.errors import UserError, check_unicode, shorten
from valyrian_jax.files import find_config, find_input, read_input

# Bytes of TOML. The time of tomllib for a key is quadratic in its dots: seconds at this size.
_MAX_BYTES = 1 << 15


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting: its dotted name, type, default and description, and a number's limits."""

    name: str
    type: Any
    default: Any
    description: str
    limits: Mapping[str, Any]  # by "ge", "gt", "le" or "lt"


def list_settings() -> Iterator[Setting]:
    """Yield every setting of a `Config`, in order."""
    defaults = Config()
    for section in dataclasses.fields(defaults):
        values = getattr(defaults, section.name)
        for name, field in type(values).__pydantic_fields__.items():
            dotted, default = f"{section.name}.{name}", getattr(values, name)
            limits = {
                key: getattr(check, key)
                for check in field.metadata
                for key in ("ge", "gt", "le", "lt")
                if hasattr(check, key)
            }
            yield Setting(dotted, field.annotation, default, field.description, limits)


def load_config(
    path: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Read a TOML file, or a preset by its name, and find the files that it names.

    A relative path of the text or the tokenizer is looked up in the working directory, then in the
    directory of the configuration file. The presets and the corpus are found anywhere. Overrides,
    by dotted key, take precedence; without a path, the others are the defaults.
    """
    if path is None:
        config, directories = config_from_tree({}, overrides), []
    else:
        path = find_config(path)
        config, directories = read_config(path, overrides), [Path(path).parent]
    data = find_text(config.data, *directories)
    tokenizer = data.tokenizer and find_input(data.tokenizer, *directories)
    return dataclasses.replace(config, data=dataclasses.replace(data, tokenizer=tokenizer))


def find_text(data: DataConfig, *directories: Path) -> DataConfig:
    """Return the settings with the paths of the text and the shards as `find_input` finds them."""

    def find_shards(entry: str) -> str:
        name, equals, weight = entry.rpartition("=")
        return f"{find_input(name, *directories) if name else ''}{equals}{weight}"

    mixture = tuple(find_shards(entry) for entry in data.mixture)
    return dataclasses.replace(data, path=find_input(data.path, *directories), mixture=mixture)


def read_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML file as it was written; overrides, by dotted key, take precedence."""
    content = read_input(path, "the configuration", _MAX_BYTES)
    try:
        tree = tomllib.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}; correct it") from error
    return config_from_tree(tree, overrides, source=str(path))


def config_from_tree(
    tree: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    source: str = "configuration",
    names: Mapping[str, str] | None = None,
) -> Config:
    """Return the checked `Config` of sections, keys and values.

    Args:
        tree: Section -> key -> value.
        overrides: Dotted key -> value; they take precedence over the tree.
        source: Where the tree comes from, for messages.
        names: Names of keys in messages, by dotted key, where they differ.

    Raises:
        UserError: A key is unknown, or a value has the wrong type or does not fit the others.
    """
    names, overrides = names or {}, overrides or {}
    sections: dict[str, dict[str, Any]] = {}
    try:
        for name, value in tree.items():
            if not isinstance(value, Mapping):
                raise UserError(
                    f"{source}: {name} = {_quote(value)} is outside a section; {_suggest_key(name)}"
                )
            sections[name] = dict(value)
        for dotted, value in overrides.items():
            section, _, name = dotted.partition(".")
            if not name:
                raise UserError(f"unknown key {dotted} = {_quote(value)}; {_suggest_key(dotted)}")
            sections.setdefault(section, {})[name] = value
        for section, values in sections.items():
            for name, value in values.items():
                for text in value if isinstance(value, list | tuple) else [value]:
                    key = f"{section}.{name}"
                    origin = "" if key in overrides else f"{source}: "
                    setting = f"{names.get(key, key)} = {text}"
                    check_unicode(setting, f"{origin}{setting!r}")
                key = f"{section}.{name}"
                shown = names.get(key, key)
                _check_plain(value, shown if key in overrides else f"{source}: {shown}")
        # Validate as JSON: in strict mode, pydantic turns no Python mapping into a dataclass.
        content = json.dumps(sections, ensure_ascii=False).encode()
        return TypeAdapter(Config).validate_json(content)
    except ValidationError as error:
        location = [*map(str, error.errors()[0]["loc"])]
        is_override = location[0] not in tree or ".".join(location[:2]) in overrides
        origin = "" if is_override else f"{source}: "
        raise UserError(f"{origin}{explain_error(error, names)}") from error
    except (TypeError, ValueError, RecursionError) as error:  # a date, a huge number, deep nesting
        raise UserError(
            f"{source}: expected text, numbers, true or false as values: {error}"
        ) from error


def _check_plain(value: Any, name: str) -> None:
    """Check that JSON can represent a value; it cannot represent a date, for example."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{name}: expected text, numbers, true or false as values: {error}"
        ) from error


def config_to_tree(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as nested plain values, as JSON has them."""
    return TypeAdapter(Config).dump_python(config, mode="json")


def config_to_toml(config: Config) -> str:
    """Return the configuration as TOML; `load_config` reads the same value back."""
    return "\n".join(
        f"[{section}]\n"
        + "".join(f"{name} = {_format_value(value)}\n" for name, value in values.items())
        for section, values in config_to_tree(config).items()
    )


def _format_value(value: str | float | bool | list[str]) -> str:
    """Return a value as TOML, which differs from JSON in one control character only."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def explain_error(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """Return the first problem of a validation in one line: key, value, what was expected.

    For settings, `names` are those of `config_from_tree`; for other objects, None.
    """
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"]))
    for name, shown in (names or {}).items():
        if f"{key}.".startswith(f"{name}."):  # or an element of its list
            key = shown + key[len(name) :]
            break
    if problem["type"] == "unexpected_keyword_argument":
        unknown = f"unknown key {key} = {_quote(problem['input'])}"
        if names is None:
            return unknown
        is_section = isinstance(problem["input"], dict)
        return f"{unknown}; {_suggest_key(key, names, is_section=is_section)}"
    if problem["type"] == "value_error":  # a check across fields, which names its keys
        return str(problem["ctx"]["error"])
    return f"{key} = {_quote(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _quote(value: Any) -> str:
    """Return the beginning of a value for a message: null, true and false as in JSON and TOML."""
    is_json = value is None or isinstance(value, bool)
    return shorten(json.dumps(value) if is_json else repr(value))


def _suggest_key(wrong: str, shown: Mapping[str, str] = {}, *, is_section: bool = False) -> str:
    """Suggest the nearest key for one that does not exist; `shown` has its name in messages."""
    keys = [setting.name for setting in list_settings()]
    if examples := [key for key in keys if key.startswith(f"{wrong}.")]:
        return f"{wrong} is a section: name one of its settings, such as {examples[0]}"
    names = {section.name: section.name for section in dataclasses.fields(Config)}
    if not is_section:
        names = {key.partition(".")[2]: key for key in keys} | {key: key for key in keys} | names
    nearest = difflib.get_close_matches(wrong, names, n=1)
    if not nearest:
        return "see `python -m valyrian_jax train --help`"
    key = names[nearest[0]]
    return f"did you mean {shown.get(key, key)}?"
