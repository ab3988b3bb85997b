"""Decides which cluster a place is on and with which properties, from flags, environment and configuration files.

Never connects and never fetches a secret: what comes out names secrets, `secrets.reveal` fetches them.

The current cluster is what the first of these names: -b or --cluster (or -F with brokers), KPIPE_BROKERS or
KPIPE_CLUSTER, KAFKA_BOOTSTRAP_SERVERS, `default` of ./kpipe.toml, `default` of the user's config; else it is
localhost:9092. Brokers without a cluster's name make an unnamed cluster: a profile's passwords never go to an address
given elsewhere, and no password at all to an address that only ./kpipe.toml gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpipe.clusters.address import is_address, plain_addresses
from kpipe.clusters.configfile import ConfigFile, Setting, Settings, read_config
from kpipe.clusters.environment import PASSWORD
from kpipe.clusters.project import PROJECT_FILE, others_write, read_project
from kpipe.clusters.properties import REGISTRY, canonical, did_you_mean
from kpipe.clusters.secrets import Reference, SecretSource, gives_login, holds_secret, mask, warnings_of
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Role = Literal["source", "target"]
ROLES: dict[str, Role] = {"source": "source", "target": "target"}

DEFAULT_BROKERS = "localhost:9092"
ENVIRONMENT = {
    "KPIPE_SECURITY_PROTOCOL": "security.protocol",
    "KPIPE_SSL_CA_LOCATION": "ssl.ca.location",
    "KPIPE_SASL_MECHANISM": "sasl.mechanism",
    "KPIPE_SASL_USERNAME": "sasl.username",
    "KPIPE_SCHEMA_REGISTRY_URL": "schema.registry.url",
}
PASSWORDS = {PASSWORD: SecretSource.ENV, "KPIPE_SASL_PASSWORD_FILE": SecretSource.FILE}
"""Variables that set a property of the current cluster; the password has its own, which stay references."""

_BROKERS = "bootstrap.servers"
_MECHANISM = "sasl.mechanism"


class Flags(NamedTuple):
    """What the command line says about clusters; empty means not given."""

    brokers: str = ""
    """-b"""
    cluster: str = ""
    """--cluster"""
    properties: Sequence[str] = ()
    """-X, each `k=v`, `source.k=v` or `target.k=v`"""
    config_file: str = ""
    """-F: a Java client.properties or a kcat configuration file"""
    config_path: str = ""
    """--config: read instead of the user's config"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, resolved. `name` is "" when the current cluster has none; the properties lack referenced secrets."""

    name: str
    properties: dict[str, str]
    read_only: bool = False
    origins: dict[str, str] = field(default_factory=dict)
    """Where each property, each referenced secret (by the property it fills) and `read_only` came from."""
    references: tuple[Reference, ...] = ()
    token: Reference | None = None
    registry: dict[str, str] = field(default_factory=dict)
    """How to reach its schema registry: the properties that start with `schema.registry.`."""
    registry_references: tuple[Reference, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What people should know of where its secrets are; they work all the same."""
        token = () if self.token is None else (self.token,)
        return warnings_of((*self.references, *token, *self.registry_references))

    @property
    def brokers(self) -> str:
        """The addresses, comma-separated."""
        return self.properties[_BROKERS]

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, {mask(self.properties)!r}, read_only={self.read_only})"


class _Current(NamedTuple):
    """Which cluster is meant when none is named: a profile ("" = none), and brokers that replace the profile's."""

    name: str = ""
    brokers: Setting | None = None
    origin: str = ""


class Profiles:
    """All that is known about clusters in this run; made by `load_profiles`."""

    def __init__(
        self,
        flags: Flags,
        environ: Mapping[str, str],
        files: Sequence[ConfigFile],
        foreign: Settings,
        project: ConfigFile | None = None,
    ) -> None:
        self.files = (*files, project) if project is not None else tuple(files)
        """Those that were read, the strongest last."""
        self.warnings = [warning for file in files for warning in file.warnings]
        """For people; each is one line without the program's name."""
        users = {name for file in files for name in file.clusters}
        self._given = {name for name in project.clusters if name not in users} if project is not None else set()
        """The clusters whose addresses nobody but the project file gives."""
        self._environ, self._flags = environ, flags
        self._foreign = foreign
        self._common, self._sided = _parse_properties(flags.properties)
        self.warnings += _argv_warnings(flags.properties)
        self._brokers = _brokers_flag(flags, self._common.pop(_BROKERS, None))
        self._current = self._select(flags)
        if self._current.name:
            self._check_name(self._current.name, self._current.origin)
        self._withheld = self._current.name in self._given and self._current.brokers is None
        if self._withheld and (unused := [name for name in (*ENVIRONMENT, *PASSWORDS) if name in environ]):
            self.warnings.append(
                f"{', '.join(unused)}: ignored: only {self.files[-1].path} gives the address of "
                f"{self._current.name!r}; to log in there, give it with -b"
            )

    @property
    def names(self) -> list[str]:
        """All clusters of all files, sorted."""
        return sorted({name for file in self.files for name in file.clusters})

    @property
    def secret_variables(self) -> list[str]:
        """The variables that hold a secret, as the files or kpipe itself have it."""
        tables = [table for file in self.files for table in file.clusters.values()]
        references = [reference for table in tables for reference, _ in table.references.values()]
        named = [reference.target[0] for reference in references if reference.source is SecretSource.ENV]
        return [PASSWORD, *named]

    @property
    def current(self) -> str:
        """The profile that is the current cluster; "" when it has no name."""
        return self._current.name

    def resolve(self, name: str | None, side: Role | None = None) -> Cluster:
        """The cluster of a place: None is the current one; `-X source.` and `-X target.` need the side to apply.

        UsageError for an unknown name, or one without brokers.
        """
        if name is not None and self._is_current(name):
            name = None
        if name is not None and not is_address(name):
            self._check_name(name, "")
        sided = self._sided.get(side, {}) if side else {}
        if name is not None and _BROKERS in sided:
            raise UsageError(f"-X {side}.{_BROKERS}: {name}: has brokers of its own; drop one of them")
        merged = self._table(self._current.name if name is None else name)
        if name is not None and is_address(name):
            merged.settings[_BROKERS] = Setting(name, "the command line")
        if (name is None or name == self._current.name) and not self._withheld:
            _lay(merged, _from_environment(self._environ))
        if name is None:
            _lay(merged, self._foreign)
            if self._current.brokers is not None:
                merged.settings[_BROKERS] = self._current.brokers
        _lay(merged, Settings(settings={**self._common, **sided}))
        return self._finish(merged, self._current.name if name is None else "" if is_address(name) else name)

    def adopt(self, names: Iterable[str | None]) -> None:
        """Take the one address among a command's places for the current cluster's, as if -b had given it."""
        clusters = set(names)
        (address, *others) = clusters
        chosen = self._brokers or self._foreign.settings.get(_BROKERS) or self._flags.cluster
        if not others and address is not None and is_address(address) and not chosen:
            self._current, self._withheld = _Current("", Setting(address, "the command line")), False

    def _is_current(self, name: str) -> bool:
        """Whether a place names the addresses of the current cluster, as messages do."""
        brokers = self._current.brokers
        return (
            is_address(name)
            and not self._current.name
            and brokers is not None
            and plain_addresses(name) == plain_addresses(brokers.value)
        )

    def refuse_unused(self, uses: Iterable[tuple[str | None, Role]]) -> None:
        """UsageError for a flag that no place of this command can use: `uses` are the places' clusters and sides."""
        uses = [(None if name is not None and self._is_current(name) else name, side) for name, side in uses]
        if self._foreign.settings and all(name not in (None, self._current.name) for name, _ in uses):
            raise UsageError(f"-F {self._flags.config_file}: no place is on the current cluster, whose it is; drop it")
        if self._brokers is not None and all(name is not None for name, _ in uses):
            names = ", ".join(f"{name}:" for name, _ in uses)
            raise UsageError(
                f"{self._brokers.origin} gives the current cluster's brokers, but {names} has its own; drop one of them"
            )
        for side in self._sided:
            if side not in {used for _, used in uses}:
                raise UsageError(f"-X {side}.…: this command has no {side} cluster; write -X without '{side}.'")

    def _select(self, flags: Flags) -> _Current:
        """The first that says which cluster is the current one, as the module's text has it."""
        brokers = self._brokers or self._foreign.settings.get(_BROKERS)
        if flags.cluster or brokers:
            return _Current(flags.cluster, brokers, "--cluster")
        name, brokers = self._variable("KPIPE_CLUSTER"), self._variable("KPIPE_BROKERS")
        if name or brokers:
            return _Current(name.value if name else "", brokers, "KPIPE_CLUSTER")
        if brokers := self._variable("KAFKA_BOOTSTRAP_SERVERS"):
            return _Current("", brokers)
        for file in reversed(self.files):
            if file.default:
                return _Current(file.default, None, str(file.path))
        return _Current("", Setting(DEFAULT_BROKERS, "default"))

    def _variable(self, name: str) -> Setting | None:
        """What a variable says of the current cluster."""
        value = read_variable(self._environ, name)
        return Setting(value, f"environment {name}") if value is not None else None

    def _check_name(self, name: str, where: str) -> None:
        """UsageError naming the nearest match and the files for a cluster that no file has."""
        if any(name in file.clusters for file in self.files):
            return
        if not self.files and self._environ.get("KPIPE_CONFIG") == "":  # as in the shell of `kpipe broker`
            raise UsageError(f"no cluster {name!r}: KPIPE_CONFIG is empty, so no config file is read", where=where)
        if not self.files:
            raise UsageError(
                f"no cluster {name!r}: there is no config file; write one with kpipe config init", where=where
            )
        files = ", ".join(str(file.path) for file in self.files)
        raise UsageError(f"no cluster {name!r} in {files}; {did_you_mean(name, self.names)}", where=where)

    def _table(self, name: str) -> Settings:
        """A cluster's settings from all files, the weakest first; a new Settings."""
        merged = Settings()
        for file in self.files:
            if table := file.clusters.get(name):
                _lay(merged, table)
        return merged

    def _finish(self, merged: Settings, name: str) -> Cluster:
        """The settings as a Cluster."""
        if not merged.settings.get(_BROKERS, Setting("", "")).value:
            where = ", ".join(str(file.path) for file in self.files if name in file.clusters)
            raise UsageError(f'cluster {name!r} has no brokers; add {_BROKERS} = "HOST:9092"', where=where)
        if name in self._given:
            self._refuse_login(merged, name)
        token = merged.references.pop("", None)
        if token is not None:
            merged.settings.setdefault(_MECHANISM, Setting("OAUTHBEARER", token[1]))
        origins = {key: setting.origin for key, setting in merged.settings.items()}
        origins |= {key: origin for key, (_, origin) in merged.references.items()}
        if token is not None:
            origins["token"] = token[1]
        if merged.read_only:
            origins["read_only"] = merged.read_only
        references = [reference for reference, _ in merged.references.values()]
        return Cluster(
            name,
            {key: setting.value for key, setting in merged.settings.items() if not key.startswith(REGISTRY)},
            bool(merged.read_only),
            origins,
            tuple(each for each in references if not each.property.startswith(REGISTRY)),
            token[0] if token is not None else None,
            {key: setting.value for key, setting in merged.settings.items() if key.startswith(REGISTRY)},
            tuple(each for each in references if each.property.startswith(REGISTRY)),
        )

    def _refuse_login(self, merged: Settings, name: str) -> None:
        """UsageError for a login that the command line or -F would give to an address of the project file's."""
        path = self.files[-1].path
        login = {key: setting.origin for key, setting in merged.settings.items() if gives_login(key)}
        login |= {key: origin for key, (_, origin) in merged.references.items()}
        for key, origin in login.items():
            address = merged.settings.get(f"{REGISTRY}url" if key.startswith(REGISTRY) else _BROKERS)
            if address is None or not address.origin.startswith(f"{path}:"):
                continue
            raise UsageError(
                f"{key or 'the token'} would go to the address of {name!r}, which only {path} gives; give it with -b",
                where=origin,
            )


def read_variable(environ: Mapping[str, str], name: str) -> str | None:
    """A variable that decides where records go or who sends them; UsageError when it is set to nothing.

    What was meant for it (`KPIPE_BROKERS=$BROKERS`, and no BROKERS) is not known; the next in the order would be
    another cluster, or another login.
    """
    value = environ.get(name)
    if value is not None and not value.strip():
        raise UsageError("is set, but empty; give it a value, or unset it", where=f"environment {name}")
    return value


def load_profiles(flags: Flags, environ: Mapping[str, str], cwd: Path) -> Profiles:
    """Read what the flags and the environment point to; UsageError with file and line for what is wrong in it."""
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    files = []
    user, named_by = user_config_path(flags, environ, cwd)
    if user is not None and (file := _read(user, home, named_by=named_by)):
        files.append(file)
        file.warnings.extend(others_write(user))
    project, ignored = None, list[str]()
    if user is None or not _is_same(user, cwd / PROJECT_FILE):
        project, ignored = read_project(cwd, home, {name for file in files for name in file.clusters})
    foreign = Settings()
    notes: list[str] = []
    if flags.config_file:
        from kpipe.clusters.foreign import read_client_file

        foreign, notes = read_client_file(cwd / flags.config_file)
    profiles = Profiles(flags, environ, files, foreign, project)
    profiles.warnings += ignored + notes
    return profiles


def user_config_path(flags: Flags, environ: Mapping[str, str], cwd: Path) -> tuple[Path | None, str]:
    """The user's config, whether it exists or not, and which flag or variable named it ("": none did).

    An empty KPIPE_CONFIG means no user's config. A relative XDG_CONFIG_HOME is ignored, as its specification says.
    """
    if flags.config_path:
        return cwd / flags.config_path, "--config"
    if "KPIPE_CONFIG" in environ:
        return (cwd / environ["KPIPE_CONFIG"], "KPIPE_CONFIG") if environ["KPIPE_CONFIG"] else (None, "KPIPE_CONFIG")
    base = environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):
        if not environ.get("HOME"):
            return None, ""
        base = f"{environ['HOME']}/.config"
    return Path(base, "kpipe", "config.toml"), ""


def _read(path: Path, home: Path | None, *, named_by: str = "") -> ConfigFile | None:
    """A config file; None when it does not exist and nobody named it."""
    try:
        return read_config(path, home=home)
    except (FileNotFoundError, NotADirectoryError):
        if not named_by:
            return None
        raise UsageError(f"{named_by}: no such file; check the path", where=str(path)) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}; check its rights", where=str(path)) from None


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths are one existing file."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _lay(base: Settings, over: Settings) -> None:
    """Lay a stronger table over a weaker one: a value replaces a reference to it and the reverse; a guard stays."""
    for name, setting in over.settings.items():
        base.references.pop(name, None)
        base.settings[name] = setting
    for name, reference in over.references.items():
        base.settings.pop(name, None)
        base.references[name] = reference
    base.read_only = base.read_only or over.read_only


def _from_environment(environ: Mapping[str, str]) -> Settings:
    """What the environment sets for the current cluster."""
    table = Settings()
    for variable, name in ENVIRONMENT.items():
        if (value := read_variable(environ, variable)) is not None:
            table.settings[name] = Setting(value, f"environment {variable}")
    for variable, source in PASSWORDS.items():
        if (value := read_variable(environ, variable)) is not None:
            reference = Reference("sasl.password", source, (variable if source is SecretSource.ENV else value,))
            table.references["sasl.password"] = (reference, f"environment {variable}")
            break
    return table


def _parse_properties(texts: Iterable[str]) -> tuple[dict[str, Setting], dict[Role, dict[str, Setting]]]:
    """-X: (what holds for both sides, what holds for one); the last of several for one property wins."""
    common: dict[str, Setting] = {}
    sided: dict[Role, dict[str, Setting]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            shown = text if not holds_secret(text) else "…"
            raise UsageError("not a property; write -X NAME=VALUE", where=f"-X {shown!r}")
        side, _, rest = name.partition(".")
        if side in ROLES:
            sided.setdefault(ROLES[side], {})[canonical(rest, where=f"-X {name}")] = Setting(value, f"-X {name}")
        else:
            common[canonical(name, where=f"-X {name}")] = Setting(value, f"-X {name}")
    return common, sided


def _argv_warnings(texts: Iterable[str]) -> list[str]:
    """Everybody on the machine can read a command line."""
    names = [text.partition("=")[0].strip() for text in texts]
    return [
        f"-X {name}: others can see it in the list of processes; use password_command or KPIPE_SASL_PASSWORD"
        for name in names
        if holds_secret(name)
    ]


def _brokers_flag(flags: Flags, property_: Setting | None) -> Setting | None:
    """-b, or -X bootstrap.servers=, which means the same: the current cluster's brokers, never a named one's."""
    if not flags.brokers:
        return property_
    if property_ is not None and property_.value != flags.brokers:
        raise UsageError(f"-b {flags.brokers} and {property_.origin}={property_.value} differ; drop one of them")
    return Setting(flags.brokers, "-b")
