"""Four layers of settings merged into one `Config`, and where each value came from.

The later over the earlier: default, TOML file, environment (`FLEETFEED_BIND`,
`FLEETFEED_FEED__MAX_INFLIGHT`), command-line flag. `resolve` never raises, so that `check-config`
can show a broken configuration; `load` raises `InvalidConfig` with every problem at once. The
merge is ours, as pydantic-settings' own forgets the origins; reading variables is theirs.
"""

from __future__ import annotations

import difflib
import json
import re
import textwrap
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource

from broker.config import Config, is_loopback
from broker.config_cluster import without_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_PREFIX = "FLEETFEED_"
# Read by the command line itself; not settings of the server.
_CLIENT_VARIABLES = frozenset(
    {"FLEETFEED_BROKER", "FLEETFEED_CONFIG", "FLEETFEED_PASSWORD", "FLEETFEED_DEBUG"}
)
# Kubernetes puts these into every pod beside a service called "fleetfeed": nobody's mistake.
_SERVICE_LINK = re.compile(r"FLEETFEED_(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP).*)?)")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: the layer, and the file, variable or flag by name."""

    layer: Literal["default", "file", "env", "flag"] = "default"
    name: str = ""

    def __str__(self) -> str:
        return f"{self.layer} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the four layers give together.

    `values` has every setting by its dotted name, as validated where that was possible and else
    as written; `config` is None exactly when there are `problems`. `warnings` are worth a line in
    the log and stop nothing.
    """

    values: dict[str, tuple[Any, Origin]]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    config: Config | None = field(default=None, repr=False)


class InvalidConfig(Exception):  # noqa: N818 - named for the fault, which is the operator's
    """The operator's configuration is wrong; `problems` has one sentence for each fault."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class _Environment(EnvSettingsSource):
    """Variables as pydantic-settings reads them, lists also as `a,b`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(Config)
        self.env_vars = {name.lower(): value for name, value in environ.items() if value}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON, or split at commas; what is neither is left for validation to refuse."""
        del field_name, field
        if not value.lstrip().startswith(("[", "{")):
            return [part.strip() for part in value.split(",")]
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """Return the configuration that `resolve` finds.

    Raises:
        InvalidConfig: with all problems at once.
    """
    resolved = resolve(file, environ, flags)
    if resolved.config is None:
        raise InvalidConfig(resolved.problems)
    return resolved.config


def resolve(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Resolved:
    """Merge default, file, environment and flags, and validate once.

    Args:
        file: TOML file, or None for none.
        environ: the process environment.
        flags: values by dotted name; None means that the flag was not given.
    """
    given: dict[str, tuple[Any, Origin]] = {}
    problems = _unknown_variables(environ)
    if file is not None:
        table, fault = _read(file)
        problems += fault
        given |= {name: (value, Origin("file", str(file))) for name, value in _leaves(table)}
    variables = _leaves(_Environment(environ)())
    given |= {name: (value, Origin("env", _variable(name))) for name, value in variables}
    given |= {
        name: (value, Origin("flag", "--" + name.partition(".")[0].replace("_", "-")))
        for name, value in flags.items()
        if value is not None
    }
    try:
        config = Config(**_nested({name: value for name, (value, _) in given.items()}))
    except ValidationError as error:
        problems += [_sentence(fault, given) for fault in error.errors()]
        config = None
    values = {
        name: (_public(name, value), given[name][1] if name in given else Origin())
        for name, value in _leaves((config or Config()).model_dump())
    }
    if config is not None and not problems:
        return Resolved(values, (), _warnings(config), config)
    written = {name: (_public(name, value), origin) for name, (value, origin) in given.items()}
    return Resolved(values | ({} if config else written), tuple(problems))


def _public(name: str, value: Any) -> Any:
    """A value as it may be shown."""
    return without_password(value) if name == _ADDRESS and isinstance(value, str) else value


def example() -> str:
    """Return a TOML file with every setting at its default, commented out and explained."""
    lines = [
        "# Every setting of the fleetfeed server, at its default. Remove the '#' before a setting to",
        "# change it. A variable of the environment wins over this file (FLEETFEED_BIND,",
        "# FLEETFEED_FEED__MAX_INFLIGHT), a flag of the command line over both.",
    ]
    for section, model in _sections():
        if section:
            lines += ["", *_comment(model.__doc__ or ""), f"[{section}]"]
        for name, info in _settings(model):
            unset = "" if info.default is not None else "# Not set by default. Example:"
            dotted = f"{section}.{name}" if section else name
            value = info.default if info.default is not None else _EXAMPLES[dotted]
            lines += ["", *_comment(f"{info.description} {_bounds(info)}"), *filter(None, [unset])]
            lines.append(f"#{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


_ADDRESS = "store.url"
"""The one setting that may hold a password."""

# Settings whose default cannot be written in TOML.
_EXAMPLES: dict[str, Any] = {
    "open": True,
    "feed.attributes": ("tz", "class", "quiet", "sleep", "region"),
    "ranking.seed": 1,
    "store.url": "redis://127.0.0.1:6379",
    "store.ca": "redis-ca.pem",
    "cluster.node": "node-1",
    "topics.read": ("weather/#",),
    "topics.write": ("home/#",),
    "tls.bind": "0.0.0.0:8883",
    "tls.certificate": "certificate.pem",
    "tls.key": "key.pem",
    "tls.client_ca": "client-ca.pem",
    "token.key": "token-key.pem",
    "token.algorithm": "EdDSA",
    "token.issuer": "https://login.example.com",
    "token.audience": "fleetfeed",
    "gateway.instance": "fleetfeed",
    "http.token_file": "http-token",
    "http.send": True,
}


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), 96)]


def _bounds(info: FieldInfo) -> str:
    """Say what a number may be; other kinds say it in their description."""
    bounds = {
        name: getattr(each, name)
        for each in info.metadata
        for name in ("ge", "le")
        if hasattr(each, name)
    }
    return f"({bounds['ge']:.10g} to {bounds['le']:.10g})" if bounds else ""


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return json.dumps(str(value))


def _read(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the table of `file` and what is wrong with it."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")), []
    except OSError as error:
        return {}, [f"{file} cannot be read: {error.strerror or error}."]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"{file} is no valid TOML: {error}."]


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of every setting of a nested table.

    An empty table of a name that is no section is yielded too, for validation to refuse.
    """
    for key, value in table.items():
        name = above + key
        if isinstance(value, dict) and (value or name in dict(_sections())):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `_leaves`. A plain value where a section belongs is kept for validation to refuse."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *above, key = name.split(".")
        table = tree
        for section in above:
            below = table.setdefault(section, {})
            table = below if isinstance(below, dict) else {}
        table[key] = value
    return tree


def _sections() -> list[tuple[str, type[BaseModel]]]:
    """Return the top level (under "") and each section with its model."""
    models = {name: info.default for name, info in Config.model_fields.items() if _is_section(info)}
    return [("", Config), *((name, type(default)) for name, default in models.items())]


def _settings(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Return the settings of one section, sub-sections left out."""
    return [(name, info) for name, info in model.model_fields.items() if not _is_section(info)]


def _is_section(info: FieldInfo) -> bool:
    return isinstance(info.default, BaseModel)


def _names() -> list[str]:
    """Every setting by its dotted name, in the order of the model."""
    return [
        f"{section}.{name}" if section else name
        for section, model in _sections()
        for name, _ in _settings(model)
    ]


def _variable(name: str) -> str:
    return _PREFIX + name.replace(".", "__").upper()


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Say which top-level variables nobody reads; the nested ones the model refuses by itself."""
    known = {_variable(name) for name in _names()} | _CLIENT_VARIABLES
    tables = tuple(_variable(name) for name, _ in _sections() if name)
    problems = []
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(_PREFIX) or upper in known or _SERVICE_LINK.fullmatch(upper):
            continue
        if upper not in tables and not upper.startswith(tuple(f"{t}__" for t in tables)):
            problems.append(
                f"{name} in the environment is no setting{_closest(upper, known, _PREFIX)}."
            )
    return problems


def _sentence(fault: ErrorDetails, given: Mapping[str, tuple[Any, Origin]]) -> str:
    """Say one fault that validation found: which setting, from where, and what is expected."""
    keys = [str(key) for key in fault["loc"] if not isinstance(key, int)]
    where = ".".join(keys)
    # What was given there, or (an unknown table) below, or (inside a list) above.
    near = (
        *(each for each in given if f"{each}.".startswith(f"{where}.")),
        *(each for each in given if f"{where}.".startswith(f"{each}.")),
    )
    name = near[0] if near else where
    origin = f" ({given[name][1]})" if name in given else ""
    if fault["type"] == "extra_forbidden":
        return f"{name}{origin} is no setting{_closest(name, _names())}."
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if where not in given and where in dict(_sections()):  # settings that do not go together
        return f"{where}: {message}." if where else f"{message[0].upper()}{message[1:]}."
    got = f" = {_public(name, fault['input'])!r}" if name in given else ""
    return f"{name}{got}{origin}: {message}."


def _closest(name: str, known: Iterable[str], common: str = "") -> str:
    """Suggest the name that was meant, also one that stands in another section.

    What all names have in `common` says nothing about how near two of them are.
    """
    stems = {each.removeprefix(common): each for each in sorted(known)}
    name = name.removeprefix(common)
    moved = [stem for stem in stems if stem.rpartition(".")[2] == name.rpartition(".")[2]]
    near = moved or difflib.get_close_matches(name, stems, n=1, cutoff=0.7)
    return f"; did you mean {stems[near[0]]}?" if near else ""


def _warnings(config: Config) -> tuple[str, ...]:
    if config.open_mode and not config.loopback:
        risk = "whoever reaches this port can register devices and publish items"
        exposed = config.plain and not is_loopback(config.host)
        return (f"open = true on {config.bind if exposed else config.tls.bind}: {risk}.",)
    return ()
