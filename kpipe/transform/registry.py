"""The table of all transforms: the one source for `--help`, man page, `kpipe transforms`, the TOML file and the docs.

Never builds one: it holds names only, so that the command line can read it without loading what the transforms need.
"""

from __future__ import annotations

from typing import NamedTuple

CATEGORIES = ("key", "header", "value", "filter", "route", "through", "setting")


class Transform(NamedTuple):
    """One row. `name` is the long option without the dashes, `metavar` is None for a switch.

    `example` is an argument as typed in a shell (empty for a switch), `builder` is `module:function` in this package,
    `default` is the argument when the option may stand alone.
    """

    name: str
    metavar: str | None
    category: str
    help: str
    example: str
    builder: str
    default: str | None = None


TRANSFORMS: tuple[Transform, ...] = (
    Transform(
        "set-key",
        "TEMPLATE",
        "key",
        "Set the key. Fields: {key} {value} {topic} {partition} {offset} {timestamp} {header[NAME]} {json[.path]}; "
        "{{ and }} are braces; a missing field is a bad record.",
        "'{header[tenant]}-{json[.user.id]}'",
        "keys:set_key",
    ),
    Transform(
        "key-field",
        "JSON_PATH",
        "key",
        "Set the key to a field of the JSON value: a string raw, anything else as compact JSON; "
        "absent or null is a bad record.",
        ".user.id",
        "keys:key_field",
    ),
    Transform("drop-key", None, "key", "Set the key to null.", "", "keys:drop_key"),
    Transform(
        "set-header",
        "NAME=TEMPLATE",
        "header",
        "Set a header: it takes the place of the first of that name, and others of that name leave.",
        "tenant='{json[.tenant]}'",
        "headers:set_header",
    ),
    Transform(
        "add-header",
        "NAME=TEMPLATE",
        "header",
        "Add a header behind the others, also when there is one of that name.",
        "seen-by=kpipe",
        "headers:add_header",
    ),
    Transform(
        "drop-header",
        "NAME_OR_GLOB",
        "header",
        "Drop every header whose name matches.",
        "'x-*'",
        "headers:drop_header",
    ),
    Transform(
        "rename-header",
        "OLD=NEW",
        "header",
        "Rename every header of that name, each in its place.",
        "id=event-id",
        "headers:rename_header",
    ),
    Transform(
        "strip-trace",
        None,
        "header",
        "Drop the trace and error headers of earlier hops (source_*, origin_*, trace_hops, error_*).",
        "",
        "headers:strip_trace",
    ),
    Transform(
        "grep",
        "REGEX",
        "filter",
        "Keep the records whose value matches, or whose key or header with a prefix key: or header[NAME]:; "
        "null never matches.",
        "'header[type]:^order'",
        "regex:grep",
    ),
    Transform(
        "grep-not",
        "REGEX",
        "filter",
        "Keep the records that --grep would not keep.",
        "'key:^test-'",
        "regex:grep_not",
    ),
    Transform(
        "filter",
        "JQ",
        "filter",
        "Keep the records for which a jq program gives anything but false and null; "
        "in all programs . is the value as JSON and $meta the rest of the record.",
        "'.amount > 100 and $meta.header.type == \"order\"'",
        "expressions:filter_",
    ),
    Transform(
        "sample",
        "RATE",
        "filter",
        "Keep a random share of the records: 0.01, 1% or 1/100.",
        "1%",
        "sample:sample",
    ),
    Transform(
        "max-age",
        "DURATION",
        "filter",
        "Keep the records whose timestamp is no older: 500ms, 30s, 5m, 2h or 7d.",
        "7d",
        "age:max_age",
    ),
    Transform(
        "dedupe",
        "JQ",
        "filter",
        "Keep the first record for each result of a jq program, as far back as --dedupe-window; "
        "a null result is never a duplicate.",
        ".event.id",
        "expressions:dedupe",
    ),
    Transform(
        "map",
        "JQ",
        "value",
        "Set the value to the result of a jq program, as compact JSON; tombstones stay.",
        "'{id, total: (.price * .count)}'",
        "expressions:map_",
    ),
    Transform(
        "map-raw",
        "JQ",
        "value",
        "As --map, but a string becomes the value without its quotes.",
        ".message",
        "expressions:map_raw",
    ),
    Transform(
        "split",
        "JQ",
        "value",
        "Make one record of every result of a jq program; the source counts as done when all are acknowledged.",
        "'.items[]'",
        "expressions:split",
    ),
    Transform(
        "map-key",
        "JQ",
        "key",
        "Set the key to the result of a jq program: a string raw, null as a null key, anything else as compact JSON.",
        "'.user.id // $meta.key'",
        "expressions:map_key",
    ),
    Transform(
        "map-header",
        "NAME=JQ",
        "header",
        "Set a header to the result of a jq program, as --map-key does with the key.",
        "total='.items | length'",
        "expressions:map_header",
    ),
    Transform(
        "route",
        "JQ",
        "route",
        "Send the record to the topic, or the CLUSTER:TOPIC, that a jq program gives, if --route-allow allows it; "
        "null keeps the target.",
        "'\"orders-\" + .country'",
        "expressions:route",
    ),
    Transform(
        "rename-topic",
        "REGEX=REPL",
        "route",
        "Send the record to its source topic with the first match replaced (\\1 and & as in sed).",
        r"'^(.*)$=copy.\1'",
        "route:rename_topic",
    ),
    Transform(
        "regex-replace",
        "s/RE/REPL/FLAGS",
        "value",
        "Replace in the value, or in the key or a header with a prefix key: or header[NAME]:, as sed does; "
        "flags g (all matches), i, m, s.",
        r"'s/\b\d{16}\b/****/g'",
        "regex:regex_replace",
    ),
    Transform(
        "tombstone-if",
        "REGEX",
        "value",
        "Set the value to null where it matches, or where the key or a header does (prefixes as for --grep).",
        "'header[op]:^delete$'",
        "regex:tombstone_if",
    ),
    Transform(
        "value-null",
        "MARKER",
        "value",
        "Set the value to null where it equals MARKER; '' stands for empty values.",
        "'\\N'",
        "tombstones:value_null",
    ),
    Transform(
        "value-empty",
        None,
        "value",
        "Set null values to empty ones, for targets that take no tombstones.",
        "",
        "tombstones:value_empty",
    ),
    Transform(
        "mask",
        "PATH",
        "value",
        "Replace a field by ***, 0, false, [] or {}, by its type; [] in a path stands for every element.",
        "'.cards[].number'",
        "fields:mask",
    ),
    Transform(
        "hash",
        "PATH",
        "value",
        "Replace a field by its HMAC-SHA256 in hexadecimal; needs --hash-salt.",
        ".user.email",
        "fields:hash_",
    ),
    Transform(
        "drop-field",
        "PATH",
        "value",
        "Drop a field of the JSON value.",
        ".user.password",
        "fields:drop_field",
    ),
    Transform(
        "rename-field",
        "PATH=NAME",
        "value",
        "Rename a field of the JSON value, in its place.",
        ".user.mail=email",
        "fields:rename_field",
    ),
    Transform(
        "flatten",
        "SEP",
        "value",
        "Flatten nested objects into one, their names joined by SEP (default a dot); arrays stay.",
        "_",
        "fields:flatten",
        default=".",
    ),
    Transform(
        "cast",
        "PATH=TYPE",
        "value",
        "Cast a field to int, float, string or bool; a cast with a loss is a bad record.",
        ".amount=int",
        "fields:cast",
    ),
    Transform(
        "timestamp-from",
        "PATH",
        "value",
        "Set the timestamp from a field: milliseconds since the epoch, or ISO 8601 (without a zone: UTC).",
        ".created_at",
        "event_time:timestamp_from",
    ),
    Transform(
        "through",
        "COMMAND",
        "through",
        "Send the value of each record, as a line, through a Unix filter that answers each line with one, in order and "
        "without holding back; a value with a newline is a bad record, tombstones pass by.",
        "'sed -u s/foo/bar/'",
        "through:through",
    ),
    Transform(
        "through-json",
        "COMMAND",
        "through",
        "Send each record, as an envelope, through a Unix filter that may change, drop and add records; it keeps "
        "topic, partition, offset and the order in a partition.",
        "'jq -c --unbuffered \"select(.key)\"'",
        "through:through_json",
    ),
    Transform(
        "call",
        "MODULE:FUNCTION|PLUGIN[=TEXT]",
        "through",
        "Give each record to a Python function of an installed module, or to a plugin (`kpipe plugins` lists them): it "
        "returns None (drop), a Record, or several; an exception is a bad record.",
        "copy:copy",
        "call:call",
    ),
    Transform(
        "plugin",
        "FILE",
        "through",
        "The same with the function `transform` of a Python file.",
        "clean.py",
        "call:plugin",
    ),
    Transform(
        "hash-salt",
        "REF",
        "setting",
        "The salt of every --hash, by reference: env:NAME or file:PATH.",
        "env:KPIPE_SALT",
        "context:setting",
    ),
    Transform(
        "through-jobs",
        "N",
        "setting",
        "How many processes of every filter run side by side; records with equal keys go to the same one (default 1).",
        "4",
        "context:setting",
    ),
    Transform(
        "through-timeout",
        "DURATION",
        "setting",
        "How long a filter may neither read nor answer before the run stops (default 60s).",
        "10s",
        "context:setting",
    ),
    Transform(
        "dedupe-window",
        "N",
        "setting",
        "How many identities every --dedupe remembers (default 100000).",
        "1000000",
        "context:setting",
    ),
    Transform(
        "route-allow",
        "GLOB",
        "setting",
        "A topic, or a glob for topics, that --route may choose; CLUSTER:GLOB on another cluster; repeatable.",
        "'orders-*'",
        "context:setting",
    ),
    Transform(
        "sample-seed",
        "N",
        "setting",
        "Make every --sample choose the same records again for the same input.",
        "7",
        "context:setting",
    ),
)

BY_NAME: dict[str, Transform] = {transform.name: transform for transform in TRANSFORMS}
