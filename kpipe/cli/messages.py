"""What kpipe says, by the id of each message: its words, what they mean, and what to do.

It says nothing itself. The ids are a contract with programs (`--log-format json`); the words are not. `docs/errors.md` is
made of this table, and `tests/unit/cli/test_messages.py` fails for a message that no row knows.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Explanation(NamedTuple):
    """A row. In `words` … stands for any text; they are looked for where a part of the message begins."""

    id: str
    words: tuple[str, ...]
    means: str
    do: str = ""


KINDS = (
    Explanation(
        "usage",
        (),
        "The command line or the configuration is wrong; nothing was read or sent. The message names the option, "
        "file or place, and what it takes.",
        "Correct what it names; exit code 2.",
    ),
    Explanation(
        "bad-record",
        (),
        "One record cannot be decoded, transformed, traced or encoded. Under `--on-error stop` the run ends "
        "before it, and nothing past it is committed.",
        "Correct the record, or go on without such: `--on-error skip`, `--on-error dlq:TOPIC`.",
    ),
    Explanation(
        "unreachable",
        (),
        "A cluster or a registry does not answer, or does not let us in.",
        "`kpipe check CLUSTER` says at which step; exit code 4.",
    ),
    Explanation(
        "undelivered",
        (),
        "Records were read, and were not delivered or it is not known.",
        "Their positions are listed; `--spill FILE` keeps them. A group is at its last committed offset: run again.",
    ),
    Explanation(
        "difference",
        (),
        "A check that you asked for found a difference.",
        "Look at the positions that are listed; exit code 5.",
    ),
    Explanation("interrupted", (), "A signal came before the run had begun.", "Run again."),
    Explanation(
        "failure",
        (),
        "Another failure while kpipe ran: of a file, a filter, a topic. The message says which.",
        "Exit code 1.",
    ),
    Explanation("note", (), "Something that kpipe wants you to know; it changes nothing.", ""),
)
"""What a message is that no words of its own are known for: by the class of its error, or a note."""

MESSAGES = (
    # --- the command line
    Explanation(
        "unknown-command",
        (
            "no command …",
            "options come behind the command; …",
            "… in kcat; type: …",
            "kpipe's commands are words; type: …",
            "kpipe has no …",
        ),
        "The first word is no command of kpipe's.",
        "`kpipe --help` lists them; the nearest one is named.",
    ),
    Explanation(
        "unknown-option",
        (
            "… has no …; see kpipe …",
            "… has no …; type: …",
            "… has no …; did you mean …",
            "no option …",
            "…: --property sets librdkafka's properties, …",
            "…; see --help",
        ),
        "The command has no such option; of another tool's, the line to type is given.",
        "`kpipe COMMAND --help`, or `--help all`.",
    ),
    Explanation(
        "empty-value",
        (
            "… is empty; give it a value, or leave it out",
            "… holds only blanks; give it a value, or leave it out",
            "is set, but empty; give it a value, or unset it",
        ),
        'An option, operand or variable has a value that says nothing, as a shell gives for a variable that is not set. Taken as "not given" it would mean something else.',
        "Set the variable, or leave the option out.",
    ),
    Explanation(
        "option-value",
        (
            "Invalid value for …",
            "…: not an …",
            "…; give one",
            "--… …: it takes …",
            "--… …: write …",
            "--… …: not a …",
            "-… …: not a …",
            "… …: it takes …",
            "… …: did you mean …",
            "not between … and …",
            "… too little; give …",
        ),
        "The option's value is not one that it takes.",
        "The message has the forms that it takes.",
    ),
    Explanation(
        "options-contradict",
        (
            "…; give one",
            "… and … do not go together; drop one",
            "… and … contradict each other; give one",
            "… is given twice; drop one",
            "… together; …",
        ),
        "Two options cannot both be meant.",
        "Drop one of them.",
    ),
    Explanation(
        "missing-operand",
        (
            "forward needs SOURCE… and TARGET",
            "… needs …, as in: …",
            "Got unexpected extra argument…",
        ),
        "A place or file is missing on the command line.",
        "`kpipe COMMAND --help` shows what it takes.",
    ),
    Explanation(
        "same-topic",
        ("source and target are the same topic",),
        "A topic would be copied into itself, or compared with itself.",
        "Name another target.",
    ),
    Explanation(
        "read-only",
        ("cluster … is read_only; …",),
        "The profile of the cluster says `read_only = true`, and the command would write there.",
        "Write elsewhere, or remove the line from the profile.",
    ),
    Explanation(
        "bad-address",
        (
            "… is no address; write …",
            "… cannot be in a topic's name, …",
            "the topic's name is empty",
            "the topic's name has …",
            "… cannot name a cluster; …",
            "'.' and '..' cannot be topics",
            "the cluster's name before ':' is empty",
        ),
        "A place is not written as `[CLUSTER:]TOPIC` or `HOST:PORT[,HOST:PORT]/TOPIC`.",
        "Correct it; a pattern starts with `^`.",
    ),
    Explanation(
        "cannot-open",
        ("cannot open: …", "is a directory, not a file", "…: no such file; check the path"),
        "A file that was named cannot be read.",
        "Check its path and its rights.",
    ),
    Explanation(
        "bad-property",
        ("no such property …", "not a property; write …"),
        "librdkafka has no property of that name, or the value is none for it.",
        "The nearest name is given; `-X NAME=VALUE`.",
    ),
    # --- configuration and secrets
    Explanation(
        "unknown-cluster",
        ("no cluster …",),
        "No profile has that name.",
        "`kpipe config show` lists them; `kpipe config init` writes a first one.",
    ),
    Explanation(
        "no-brokers", ("cluster … has no brokers; …",), "The profile names no address.", "Add `bootstrap.servers`."
    ),
    Explanation(
        "config-file",
        (
            "not TOML: …",
            "no such key …",
            "is not UTF-8 text; save it as UTF-8",
            "clusters is a table; …",
            "… is no value for a property; …",
            "… are the same property; keep one",
            "default is the name of a cluster",
            "clusters.… is a table",
            "is nested too deep",
            "is larger than … bytes; this is no configuration file",
        ),
        "A configuration file cannot be understood; file and line are named.",
        "Correct that line.",
    ),
    Explanation(
        "secret-missing",
        (
            "… the variable … is not set; export it",
            "… is empty …; a secret cannot be empty",
            "… failed with exit code …; run it by hand to see why",
            "… took longer than … s; it cannot ask questions here",
            "the keyring has no …",
            "… was killed by signal …; run it by hand to see why",
            "…: no such command; check the name and PATH",
        ),
        "A secret cannot be had from where the profile says that it is.",
        "Run the command, or look at the file or variable, by hand.",
    ),
    Explanation(
        "secret-readable",
        ("holds a secret and others may …", "… and it may run commands; make it yours: …"),
        "A file that holds a secret can be read by everybody, or changed by a group. A warning: the run goes on.",
        "`chmod 600 FILE` (0440 is fine, as in Kubernetes).",
    ),
    Explanation(
        "secret-on-the-command-line",
        ("…: a secret has no place in a unit",),
        "A secret stands where other users or logs see it.",
        "Name it by reference: `password_file`, `password_command`, `password_env`.",
    ),
    Explanation(
        "unit",
        (
            "…: the service sees no home and no /tmp; install kpipe for all users, or as one file",
            "forward without -G starts from the beginning each time the unit starts, and sends all again; add -G GROUP",
        ),
        "The unit is printed, and would not do what you want: it cannot start what lies in a home, or repeats itself.",
        "The Debian package, `pipx install --global`, the one file in `/usr/local/bin`; a group.",
    ),
    Explanation(
        "project-file",
        ("ignored, because …", "ignored: …"),
        "A `kpipe.toml` in this directory is not trusted, wholly or in part: it may come from somebody else.",
        "`kpipe config show --origin` shows what counts; `--config kpipe.toml` believes it all.",
    ),
    # --- the way to a cluster
    Explanation(
        "name-unresolved",
        ("no address for …",),
        "The name of a broker cannot be resolved.",
        "Check the name, and DNS or VPN.",
    ),
    Explanation(
        "no-answer",
        (
            "…: connection refused; …",
            "… is silent",
            "… does not answer (…)",
            "cannot use the cluster within … s",
            "no answer to a list-offsets request",
        ),
        "The broker accepts no connection, or says nothing.",
        "Check address, port and firewall; `kpipe check`.",
    ),
    Explanation(
        "tls-unexpected",
        ("… speaks plaintext, and TLS was tried",),
        "The port has no TLS.",
        "Use the TLS port, or set `security.protocol`.",
    ),
    Explanation(
        "tls-expected",
        ("… speaks TLS, and plaintext was tried",),
        "The port has TLS.",
        "Set `security.protocol=SSL` or `SASL_SSL`, or use the plaintext port.",
    ),
    Explanation(
        "certificate",
        (
            "the certificate of … expired on …",
            "the certificate of … is not valid before …",
            "the certificate of … is for …",
            "the certificate of … is signed by …, which is not trusted here",
            "… wants a client certificate, and none is set",
            "… refused our client certificate",
            "… found no common way to encrypt",
        ),
        "The broker's certificate is not accepted, or it does not accept ours.",
        "The message says which of them, and why; `ssl.ca.location` names the authorities.",
    ),
    Explanation(
        "login-expected",
        ("… wants a login (…), and none is configured",),
        "The port wants SASL.",
        "Set `security.protocol`, `sasl.mechanism` and a user.",
    ),
    Explanation(
        "login-unexpected",
        ("… takes no login, and one was tried",),
        "The port has no SASL.",
        "Set `security.protocol` to PLAINTEXT or SSL, or use the port with SASL.",
    ),
    Explanation(
        "mechanism",
        ("… does not know …; it offers …",),
        "The broker does not offer that SASL mechanism.",
        "Take one that it offers.",
    ),
    Explanation(
        "login-refused",
        (
            "wrong username or password for …",
            "the cluster refused the login: …",
            "the cluster refused the token (…)",
            "no token: …",
            "… gave no token: …",
            "…; check the login",
        ),
        "The cluster does not accept who we say we are.",
        "Check user, secret and token; for how long it is valid.",
    ),
    Explanation(
        "not-authorised",
        ("not authorised: no ACL allows …", "not authorised for this transactional id"),
        "The login is good; an ACL for this operation is missing.",
        "Ask for the ACL that the message names.",
    ),
    Explanation(
        "advertised-address",
        ("broker … sends clients to …",),
        "The first connection works, and the cluster sends clients to an address that cannot be reached from here.",
        "Use the listener for clients outside, or reach that address.",
    ),
    Explanation(
        "away",
        ("not reachable since …", "still not reachable, since …", "…; still trying", "… for it; …"),
        "A cluster does not answer while the run goes on. Nothing is lost: it is waited for, and records wait.",
        "Nothing, if it comes back; SIGTERM ends the wait.",
    ),
    Explanation(
        "client-lost",
        ("our client does not find back to it since …, and a new one does; …",),
        "The cluster is there, and the client of this run does not find back to it (a known fault of librdkafka when a"
        " broker that comes back tells of no brokers). The run ends with 4; nothing is lost, some records may come twice.",
        "Start it again: a service manager does, with the units that `kpipe unit` prints.",
    ),
    Explanation("reachable-again", ("reachable again after …",), "The cluster answers again; the run has gone on.", ""),
    Explanation(
        "no-such-topic",
        (
            "no such topic; check the name, the cluster, …",
            "no such topic",
            "no such topic; did you mean …",
            "no such topic; …",
            "no topic matches",
            "no such topic to copy from",
        ),
        "The topic is not there, or may not be seen.",
        "Check name and cluster; `--create` makes a target.",
    ),
    Explanation(
        "topic-gone",
        ("the topic is gone", "the topic was deleted", "the topic or partition is gone"),
        "A topic or partition went away while the run read or wrote it.",
        "Create it again, or name another one.",
    ),
    Explanation(
        "no-such-partition",
        (
            "no partition …; the topic has …",
            "there is no partition …",
            "… so none has the number …; add some, or drop `same`",
            "has … partition(s), the source has …; add some or drop `same`",
        ),
        "The topic has fewer partitions.",
        "Add some (`kpipe admin alter-topic`), or let the key choose.",
    ),
    Explanation(
        "created",
        ("created, with … partition", "its settings cannot be copied: …"),
        "`--create` made the topic; or its settings could not be taken over from the source.",
        "",
    ),
    # --- reading
    Explanation("typing", ("stdin: reading what you type; Ctrl-D ends",), "stdin is a terminal.", ""),
    Explanation(
        "gap",
        (
            "… offsets (… to …) were deleted before they were read",
            "1 offset (…) was deleted before it was read",
            "the next offset is past the end (…): the topic was truncated or created again",
            "the topic was deleted and created again (offsets … to … exist now)",
        ),
        "Records of the source are gone that the group has not read: retention was faster, or the topic is another one by now. How many are missing is told.",
        "`--on-gap earliest`, `latest` or `warn` goes on; otherwise nothing is passed.",
    ),
    Explanation(
        "new-topic",
        (
            "a new topic that matches; read from its beginning",
            "the topic was deleted; the others that match are read on",
            "the pattern matches it, too; it is not read",
        ),
        "The topics that a pattern means have changed.",
        "",
    ),
    Explanation(
        "open-transaction",
        (
            "…; they were not read",
            "…; waiting for its end",
            "the end of the target was not reached; is a transaction open there?",
        ),
        "A producer has a transaction open; records behind its beginning cannot be read yet.",
        "Wait for its end; `kpipe topics --health` shows it.",
    ),
    Explanation(
        "group-goes-on",
        ("goes on where it left off; -o is only for …",),
        "The group has committed offsets, and `-o` does not move it.",
        "Another `-G` starts anew; `kpipe admin reset-offsets` moves this one.",
    ),
    Explanation(
        "start-in-future",
        ("-o: … is in the future; …", "-o … is past the end (…); …"),
        "The place to start at is not there yet.",
        "",
    ),
    Explanation(
        "waiting-for-partitions",
        ("no partition came yet: other members have them; …",),
        "The group has more members than partitions, or one that died still counts as a member.",
        "Wait for its session timeout (45 s), or stop the others.",
    ),
    Explanation(
        "joining-again",
        ("…; joining the group again",),
        "The member was thrown out because it did not poll for `max.poll.interval.ms`.",
        "Look at what took so long: a filter, a stopped process.",
    ),
    Explanation(
        "group-refuses",
        ("it has classic members, and the cluster does not convert it", "its members use another assignor"),
        "The group's members speak another protocol.",
        "`--group-protocol classic`, or their `partition.assignment.strategy`.",
    ),
    Explanation(
        "no-offsets",
        ("cannot read the group's offsets: …", "cannot list offsets: …"),
        "The cluster does not say where the group stands, or where the topic ends.",
        "Try again; `kpipe check`.",
    ),
    Explanation(
        "rebalance-failed",
        ("cannot take over partitions: …", "cannot let partitions go: …", "cannot go back: …"),
        "The client failed in a rebalance.",
        "Run again: the group is at its last commit.",
    ),
    Explanation(
        "input-unreadable",
        ("cannot read: …",),
        "A file or stdin failed while it was read.",
        "Look at the disk; run again.",
    ),
    Explanation(
        "empty-input",
        ("no record was read (--fail-if-empty)",),
        "There was nothing to read, and `--fail-if-empty` asks for exit code 5.",
        "",
    ),
    Explanation(
        "nothing-after-fragment",
        ("… byte(s) of an unfinished record, read before the signal, not sent",),
        "A signal came in the middle of a line.",
        "The program before kpipe was stopped too early.",
    ),
    # --- decoding
    Explanation(
        "record-too-long",
        ("record is longer than … byte(s); …",),
        "No end of a record was found.",
        "Is the delimiter right? `--max-record-bytes` raises the limit.",
    ),
    Explanation(
        "not-an-envelope",
        (
            "the line …; put the value into a JSON string",
            "the envelope has no …",
            "field … is there twice",
            "… are both there; keep one of the two",
            "timestamp_type is …; it is one of …",
            "value …; put it into a JSON string",
            "not JSON: … at column …; write one envelope per line",
            "the line is …",
            "… belongs to a … that is JSON; …",
            "… an object, as consume --decode writes it",
            "unknown field …",
        ),
        "A line of `--input json` is not an envelope.",
        "[Formats](formats.md) has its fields; `--lenient` takes unknown ones.",
    ),
    Explanation(
        "bad-field",
        (
            "… is … (…); write a whole number …",
            "… is …; it must lie between … and …",
            "headers is … (…); write a list …",
            "… half a surrogate pair, …",
            "… is not base64 (…); …",
            "… is … (…); write it as a …",
            "header … is …; write it as …",
            '… an object there has one field, "base64"',
        ),
        "A field of an envelope has the wrong type or range.",
        "The message says what it takes.",
    ),
    Explanation(
        "foreign-dump",
        (
            "not JSON: … expected what … writes",
            "the object has no …; is this what … writes?",
            "… its bytes are lost; dump without …",
            "… they are lost; dump with kpipe consume --json, …",
            "… kcat writes …",
            "… kcl writes …",
            "… kaf writes …",
            "… writes an object per record",
            "the values are not in this dump; …",
            "the object has neither topic nor offset; …",
            "headers is …; … writes a list of …",
            "a header has no key (…); …",
            "not JSON, even with bytes …",
            "not UTF-8, and with surrogate escapes …",
        ),
        "A line is not what that tool writes, or the tool itself has lost bytes.",
        "Dump with `kpipe consume -J`.",
    ),
    Explanation(
        "binary-input",
        (
            "… is this what kpipe --output binary wrote?",
            "no record after a bad length can be found; …",
            "the input ends inside a record, …",
        ),
        "The binary input is damaged or cut off.",
        "Write it again; everything before it was sent.",
    ),
    Explanation(
        "format-input",
        ("…; does the input fit the format?", "no record after a bad one can be found in a format with lengths; …"),
        "The input does not fit the format string.",
        "Compare it with `-f`.",
    ),
    Explanation(
        "header-with-nul",
        ("a header's name holds a NUL byte, …",),
        "Kafka's client cannot send such a header.",
        "`--rename-header`, or drop it.",
    ),
    Explanation(
        "undecodable-value",
        ("the … cannot be decoded: …", "cannot be written in the form it was read in", "decode: …: the … …: …"),
        "A value does not fit the schema that it names.",
        "[Schemas](schemas.md); the value is shown or passed as it is, and the exit code is 1.",
    ),
    Explanation(
        "no-schema-of-that-id",
        ("…; it and its like are taken as they are",),
        "The bytes look like Confluent's prefix, and the registry has no such id: it is taken as no schema.",
        "",
    ),
    Explanation(
        "does-not-fit-schema",
        (
            "does not fit its schema: …",
            "is not JSON, and its schema wants JSON",
            "has a schema that consume did not write",
            "cannot be written as it was read: …",
            "the … was decoded by a schema (…); give --encode same …",
        ),
        "A value cannot be written by its schema; its path is named.",
        "Correct the value or the schema.",
    ),
    Explanation(
        "registry",
        (
            "the schema registry …",
            "it answers with something that is not JSON; …",
            "it answers 404 with something that is not JSON; …",
            "it answers in a form that no schema registry has; …",
            "it answers …, which leads elsewhere; …",
        ),
        "The schema registry does not answer, refuses the login, or refuses the schema.",
        "Check `schema.registry.*`; one that is away is waited for.",
    ),
    Explanation(
        "schema-ids",
        (
            "it starts as one that names a schema by an id of …",
            "names a schema that its registry does not have …",
            "names its schema …",
            "names a schema that the target's registry …",
            "cannot be translated: …",
            "refers to …, which the target's registry does not have …",
            "schema … belongs to … and not to …",
            "its references run in a circle",
            "…; see kpipe schema check",
        ),
        "A schema's id means nothing, or something else, at the target's registry.",
        "`--translate-schemas register` or `lookup`; [schemas](schemas.md).",
    ),
    # --- transforms and filters
    Explanation(
        "transform",
        ("…; use --on-error skip or dlq:TOPIC to go on without such records",),
        "A transform cannot be applied to this record: no JSON, a field that is not there, a pattern that takes too long.",
        "The message names the option and why; `--on-error`, or another program.",
    ),
    Explanation(
        "skipped",
        ("…; skipped (--on-error skip)",),
        "A bad or refused record was passed over; it counts as failed, and the exit code is 1.",
        "`--on-error dlq:TOPIC` keeps such records.",
    ),
    Explanation(
        "filter-failed",
        (
            "… the filter … before its input did; …",
            "… cannot start the filter: …",
            "…the filter answered …; it must answer in lines",
            "cannot start jq: …",
        ),
        "The program of `--through` ended or cannot be started.",
        "Run it by hand; nothing past its last answer was committed.",
    ),
    Explanation(
        "jq-says-nothing",
        ("… shows nothing here; try the program with jq",),
        "`debug` and `stderr` of a jq program write nothing in kpipe, which runs jq as a library; the program's results are right.",
        "`kpipe consume … | jq 'PROGRAM'` shows them.",
    ),
    Explanation(
        "filter-silent",
        ("… no answer for … s; it may hold its output back …",),
        "The program of `--through` neither reads nor answers.",
        "It must not buffer: `jq --unbuffered`, `sed -u`; or raise `--through-timeout`.",
    ),
    Explanation(
        "filter-answers",
        (
            "… the filter answered more lines than it was given; …",
            "… the filter …; a filter keeps topic, partition and offset, …",
            "… the value holds a newline, so it is not one line; …",
        ),
        "The program of `--through` does not answer a line with a line.",
        "`--through-json` may add and drop records.",
    ),
    Explanation("filter-says", ("through: …",), "A line that the program of `--through` wrote to its stderr.", ""),
    Explanation(
        "stopped-at-work",
        ("the run ended while jq was at work", "… the run ended while it was matched"),
        "The drain ended while an expression was at work on a record; the record was not sent.",
        "Run again.",
    ),
    Explanation(
        "loop",
        ("would loop: …",),
        "The record has been where it would go, or has made `--max-hops` hops.",
        "Exclude that topic from the sources; `--strip-trace` if it is meant.",
    ),
    Explanation(
        "no-home",
        (
            "it has no header …, so nobody knows its home",
            "its home is on cluster …",
            "it failed … time(s) (--max-attempts …); …",
        ),
        "`--to-origin` cannot send the dead letter home.",
        "Name its cluster: `kpipe forward DLQ CLUSTER: --to-origin`; or raise `--max-attempts`.",
    ),
    # --- sending
    Explanation(
        "too-large",
        (
            "the record is larger than the topic's max.message.bytes…",
            "the record is larger than the send buffer; raise --buffer",
        ),
        "The topic takes no record of that size.",
        "Raise `max.message.bytes` of the topic, or `--on-error dlq:TOPIC`.",
    ),
    Explanation(
        "no-key",
        (
            "has no key, and … is compacted; …",
            "the topic is compacted and takes no record without a key; …",
            "the broker refused the record (a compacted topic …)",
        ),
        "A compacted topic takes no record without a key.",
        "`-k`, `-K`, `--key-field`, `--keyless key`, or `--on-error`.",
    ),
    Explanation(
        "time-refused",
        ("its time … is … ahead, and …", "its time … is … old, and …"),
        "The record's time is outside of what the topic takes.",
        "`--timestamp now` sends it as of now.",
    ),
    Explanation(
        "time-zero",
        ("… becomes the time of sending, …",),
        "Kafka's client cannot send the time 0. It is told once and counted, and the exit code is 1.",
        "`--timestamp now`, or `--timestamp-from`.",
    ),
    Explanation(
        "maybe-written",
        (
            "not acknowledged in time, so it may or may not have been written…",
            "another producer writes under this one's id, …",
            "not acknowledged before the drain ended; …",
            "not acknowledged before the producer was closed",
            "whether … record(s) arrived is not known",
        ),
        "No answer came for a record: it counts as unknown.",
        "With a group, run again: it comes twice rather than never. `--spill FILE` keeps it.",
    ),
    Explanation(
        "producer-dead",
        ("the producer cannot go on (…): …",),
        "The producer is beyond repair: fenced, or an order that cannot be kept.",
        "Run again; nothing unacknowledged was committed.",
    ),
    Explanation(
        "partitions-grew",
        ("has … partition(s) now, … at the start; …",),
        "The target has more partitions than at the start: keys go elsewhere from now on.",
        "See `--partitioner`, `--to-partition same`; [scale](scale.md).",
    ),
    Explanation(
        "dead-letter-refused",
        ("the dead-letter topic did not take a record: …", "… so it cannot become a dead letter"),
        "A dead letter was not acknowledged; the run stops before the record.",
        "Look at that topic: size, rights, cluster.",
    ),
    Explanation(
        "dead-letter-size",
        ("takes records of … bytes, and … of …",),
        "The dead-letter topic takes no larger records than the target: one that is refused for its size may be refused there, too.",
        "Raise its `max.message.bytes`.",
    ),
    Explanation(
        "cannot-write",
        (
            "cannot be written: …",
            "send: stdout: cannot write: …",
            "cannot write: …",
            "cannot write: …; free space and run again",
            "cannot be written: …; check the folder's rights",
        ),
        "stdout or a file took no more: a full disk, usually. Nothing past it is committed.",
        "Free space, run again.",
    ),
    Explanation(
        "no-temporary-folder",
        ("config: no folder for temporary files can be written to; …",),
        "All of the system is read-only, as in a container: a large `verify`, and a schema in Protobuf's text, need a place for files.",
        "Give the container a `/tmp` (`docker run --tmpfs /tmp`), or name a folder with `TMPDIR`.",
    ),
    Explanation(
        "no-current-folder",
        ("config: the current directory is gone; …",),
        "Somebody deleted the directory that kpipe was started in, and a relative path was to be looked up there.",
        "`cd` to another directory, or give absolute paths.",
    ),
    Explanation(
        "open-files",
        ("config: more files and connections are needed than may be open, …",),
        "The limit of open files (`ulimit -n`, `LimitNOFILE=` of systemd) is too small: kpipe needs some 30, a connection to each broker, and a few for each filter and worker.",
        "Raise the limit.",
    ),
    Explanation(
        "reader-gone",
        ("the reader of stdout went away",),
        "What stdout leads to has ended; kpipe ends quietly, by SIGPIPE.",
        "",
    ),
    Explanation(
        "spill-failed",
        (
            "cannot spill … undelivered record(s): …",
            "cannot write what is left: …",
            "was changed while it was sent, and is left as it is; …",
            "…; the spill is damaged there, and nothing of it was sent",
        ),
        "The file of `--spill` or `--restore` cannot be written, or is not what it was.",
        "Free space; the records' positions are listed.",
    ),
    # --- committing and ending
    Explanation(
        "commit-unanswered",
        (
            "the last commit was not answered in time; …",
            "no answer to the commit before partitions went to others (…); …",
            "another member took over before the commit…",
        ),
        "What was delivered is not committed: it comes again, at the next start or at the next owner.",
        "Nothing; or `--exactly-once`, `--resume-by-trace`.",
    ),
    Explanation(
        "transaction-failed",
        (
            "… transactions failed in a row: …",
            "the transaction coordinator did not answer in time, …",
            "… in a transaction that did not end: …",
        ),
        "Nothing of these transactions is seen in the target; the group has not moved.",
        "Run again.",
    ),
    Explanation(
        "fenced",
        ("the transaction was fenced: …",),
        "Another process uses the same transactional id, or the transaction took too long.",
        "Give each process its own `--instance`.",
    ),
    Explanation(
        "resume-limit",
        (
            "… record(s) would have to be read to know what is there already; …",
            "cannot find the end of the target: …",
            "the end of the target …",
        ),
        "`--resume-by-trace` cannot read the end of the target.",
        "Raise `--resume-limit`; commit with `-G`, so that the next start needs less.",
    ),
    Explanation(
        "acknowledgements",
        (
            "nobody acknowledged anything; …",
            "the far end went away before it had delivered everything; …",
            "the far end of the pipe has finished",
            "cannot connect (…); begin the pipe with …",
            "waiting for the far end of the pipe to acknowledge …",
        ),
        "The two ends of a shell pipeline with `--commit-acked` and `--ack` do not meet, or one ended early.",
        "[Acknowledgements through a pipe](delivery.md#acknowledgements-through-a-shell-pipeline).",
    ),
    Explanation(
        "stopping",
        ("stopping: waiting for …", "stopped before …"),
        "A signal came; what was read is being delivered.",
        "A second signal gives it up.",
    ),
    Explanation(
        "not-delivered", ("not delivered: …",), "A record, by its position, and why.", "`--spill FILE` keeps them all."
    ),
    Explanation(
        "given-up",
        (
            "… not delivered before the end; see their positions below",
            "a call did not come back before the drain ended; …",
            "the run ended before it was sent",
        ),
        "The deadline of the drain was over.",
        "Raise `--drain-timeout`; run again.",
    ),
    Explanation(
        "balance",
        ("… read, … delivered, …", "… read, … shown, …", "… read, … written, …", "… read, … printed, …"),
        "What became of the records.",
        "",
    ),
    Explanation(
        "unbalanced", ("the ledger does not balance; …",), "A fault of kpipe's own counting.", "Please report it."
    ),
    Explanation(
        "internal",
        (
            "internal error (…",
            "… filters are not run here",
            "the consumer sees all records itself",
            "the client says: …; run again",
        ),
        "A fault of kpipe's own, or of a library below.",
        "Please report it, with the output of `KPIPE_DEBUG=1`.",
    ),
    Explanation(
        "summary-failed",
        ("cannot write the summary: …", "cannot write the metrics: …"),
        "`--summary` or `--metrics-file` cannot be written; the run itself is told besides.",
        "Check the path.",
    ),
    Explanation(
        "dry-run",
        ("dry run: nothing is produced, …", "dry run: …"),
        "`-n`: nothing was sent, committed, created or joined.",
        "",
    ),
    Explanation("metrics", ("metrics: http://…/metrics",), "Where the numbers are served.", ""),
    Explanation(
        "worker",
        ("worker …: died by …", "worker …: ended by … while it drained"),
        "A worker of `--workers` died; it is started again, up to nine times in a row.",
        "Look at what killed it: memory, mostly.",
    ),
    # --- looking and changing
    Explanation(
        "searched",
        ("searched …", "stopped: searched …", "… record(s) could not be judged: …", "not searched: …"),
        "How much was looked at, and how much not.",
        "`--all`, `--everywhere` look further.",
    ),
    Explanation(
        "not-there",
        (
            "no record at that offset: …",
            "not there: …",
            "no such …; check the name, the cluster, …",
            "no such …; did you mean …",
            "no … matches",
            "it has no …s",
            "no group reads it",
        ),
        "What was asked for is not on the cluster, or not any more.",
        "",
    ),
    Explanation(
        "needs-a-real-broker",
        ("the embedded broker …", "--exactly-once: the embedded broker does not isolate transactions"),
        "The embedded broker is librdkafka's mock: it has no administration, no groups, no isolation.",
        "Use a real cluster.",
    ),
    Explanation(
        "broker-start",
        (
            "… choose another --port (0 = any free one)",
            "no mock cluster of … brokers could be made; …",
            "librdkafka did not start: …",
            "the librdkafka of confluent-kafka … offers no mock cluster …",
            "broker: … command not found; …",
            "broker: … cannot be executed (…); …",
            "already closed; …",
        ),
        "`kpipe broker` cannot start, or its command cannot.",
        "The message says what is in the way.",
    ),
    Explanation(
        "broker-serves",
        ("broker: … (in memory: gone when it stops), topics: …",),
        "Where the embedded broker is reached.",
        "",
    ),
    Explanation(
        "change-planned",
        (
            "no plugins are installed beside kpipe; …",
            "…; add --execute to do it",
            "…: no terminal to confirm on; …",
            "not confirmed; …",
            "nothing to delete",
            "nothing to move: …",
            "nothing that … has not read is skipped; …",
            "groups: nothing of the dump that they have not read is skipped; …",
        ),
        "What `kpipe admin` or `kpipe load --groups` would do, or why it did nothing.",
        "`--execute`, and `--yes` where nobody can be asked.",
    ),
    Explanation(
        "changed",
        (
            "undo: …",
            "… altered, and read back",
            "… deleted",
            "… partition(s) moved, and read back",
            "… group(s) moved, and read back",
            "wrote … pages to …",
            "wrote …; …",
            "…, … partition(s)",
        ),
        "What was done, and how to undo it.",
        "",
    ),
    Explanation(
        "expires-at-once",
        ("… older than it keeps them (…",),
        "The target deletes records by their time (`retention.ms`), and these are older: Kafka deletes them soon.",
        "`kpipe admin alter-topic TARGET --config retention.ms=-1 --execute` first, and its own setting afterwards.",
    ),
    Explanation(
        "would-lose",
        (
            "group … has not read … of these records in …",
            "who would lose records is not wholly known: …",
            "who reads it is not wholly known: …",
            "not moved: …",
        ),
        "A change would take records from a group that has not read them; or it is not known.",
        "Look at the groups first.",
    ),
    Explanation(
        "change-not-seen",
        (
            "it was accepted, but …",
            "read back, … is not as asked",
            "the topic exists already; …",
            "the topic was made, and is not there for clients after … s; …",
        ),
        "The cluster accepted a change, and reading it back does not show it; or there was nothing to change.",
        "Look again in a moment.",
    ),
    Explanation(
        "group-in-use",
        ("the group has members (…", "somebody committed for it meanwhile …"),
        "A group with members cannot be moved: they would write over it.",
        "Stop them first; they are named.",
    ),
    Explanation(
        "trace-to-group",
        ("the group has committed nothing there", "no record there was made from what the group reads, …"),
        "`--to trace:CLUSTER:GROUP` finds nothing to go by.",
        "Look at the trace headers: `kpipe trace`.",
    ),
    Explanation(
        "undo-failed",
        ("cannot write the undo file: …",),
        "Nothing was changed, because it could not be undone.",
        "`--undo FILE`.",
    ),
    # --- dumps
    Explanation(
        "already-there",
        ("… there already",),
        "Records that the target has already, as its trace headers say, were not sent again.",
    ),
    Explanation(
        "dump-going-on",
        ("going on behind …", "going on behind …"),
        "A dump or load goes on behind what is there.",
        "",
    ),
    Explanation(
        "dump-incomplete",
        (
            "where groups stand is not wholly in the dump: …",
            "its settings are not in the dump: …",
            "deleted before they were dumped: …",
        ),
        "The dump has all records that could be read, and not all besides.",
        "",
    ),
    Explanation(
        "dump-damaged",
        (
            "…; fetch it again from where the dump was kept",
            "holds … record(s), and the manifest says …",
            "…; fetch it again",
            "cannot be read: …; fetch it again",
            "records of another place are in it…",
        ),
        "A file of the dump is not what the manifest says; nothing was sent.",
        "Fetch it again.",
    ),
    Explanation(
        "dump-elsewhere",
        (
            "the dump goes to …, beyond its end: …",
            "it has …, and the dump has …",
            "it holds … not of this dump; …",
            "cannot write: …; make room, and run it again: …",
            "cannot write the manifest: …",
        ),
        "The dump and the topic do not belong together, or the disk is full.",
        "Name another folder or topic.",
    ),
    Explanation("dump-compared", ("compared: … the same…",), "The topic holds what the dump holds.", ""),
    Explanation(
        "rows-failed",
        ("cannot keep rows: …",),
        "`verify` cannot write its temporary files.",
        "Set `TMPDIR`, or raise `--memory`.",
    ),
)


def identify(text: str, kind: str = "note") -> str:
    """The id of a message; `kind` for one whose words are not known."""
    text = re.sub(r"^worker \d+: (?!died|ended)", "", text)
    found, most = kind, 0
    for weight, pattern, name in _patterns():
        if weight > most and pattern.search(text):
            found, most = name, weight
    return found


def pattern_of(words: str) -> str:
    """A regular expression for words of the table, from where a part of a message begins; `(s)` for one and many."""
    return r"(?:^|: )" + ".*?".join(re.escape(part) for part in words.split("…")).replace(r"\(s\)", "s?")


def _patterns() -> list[tuple[int, re.Pattern[str], str]]:
    if not _compiled:
        for message in MESSAGES:
            for words in message.words:
                weight = len(words.replace("…", ""))
                _compiled.append((weight, re.compile(pattern_of(words), flags=re.DOTALL), message.id))
    return _compiled


_compiled: list[tuple[int, re.Pattern[str], str]] = []
