"""The parts of the manual that no declaration can give: signals, environment, files.

It holds text only, one paragraph or one row an entry; `kpipe.cli.manual` sets it.
"""

from __future__ import annotations

DESCRIPTION = (
    "kpipe moves records between Unix pipes and topics of Apache Kafka, and between topics, on one cluster or two. A "
    "place is written [cluster:]topic, as in scp, or HOST:PORT[,HOST:PORT]/topic; without a cluster it is the current "
    "one.",
    "What was read is accounted for: read = delivered + filtered + dead-lettered + failed + unknown. When anything "
    "failed or is unknown, the balance and the positions are printed and the exit code is not 0. When all went well "
    "and stderr is no terminal, nothing is printed.",
)

SIGNALS = (
    "TERM, INT and HUP stop the input. What was read is delivered within --drain-timeout, committed and reported; then "
    "kpipe dies by the same signal, so that a shell's loop stops and systemd calls it clean (a shell shows 143, 130 "
    "or 129). If anything was lost, the exit code is 1 instead. INT and HUP that were ignored at the start (nohup, "
    "jobs in the background) stay ignored.",
    "A second signal, or the end of --drain-timeout, gives up what is in flight; its positions are printed, and "
    "--spill keeps the records.",
    "When the reader of stdout goes away, consume commits only what was handed over and dies by PIPE (141), silently.",
)

ENVIRONMENT = (
    ("KPIPE_BROKERS", "Brokers of the current cluster, as with -b."),
    ("KPIPE_CLUSTER", "The current cluster, as with --cluster."),
    ("KAFKA_BOOTSTRAP_SERVERS", "Brokers of the current cluster, when neither of the two above is set."),
    ("KPIPE_CONFIG", "Read this file instead of the user's config.toml; empty: read none."),
    ("KPIPE_SECURITY_PROTOCOL", "The current cluster's security.protocol."),
    ("KPIPE_SSL_CA_LOCATION", "The current cluster's ssl.ca.location."),
    ("KPIPE_SASL_MECHANISM", "The current cluster's sasl.mechanism."),
    ("KPIPE_SASL_USERNAME", "The current cluster's sasl.username."),
    ("KPIPE_SCHEMA_REGISTRY_URL", "The current cluster's schema.registry.url."),
    ("KPIPE_SASL_PASSWORD", "The current cluster's password."),
    ("KPIPE_SASL_PASSWORD_FILE", "A file with the current cluster's password."),
    (
        "KPIPE_SLOT",
        "Which of several processes of one group on this machine this is (0, 1, ...), for --exactly-once.",
    ),
    ("KPIPE_LOG_FORMAT", "How kpipe's own messages are written (text, json), as with --log-format; of all commands."),
    ("KPIPE_SELF", "The executable that starts kpipe, for layouts in which the interpreter alone does not."),
    ("KPIPE_DEBUG", "Set: show the client's own log lines, and the traceback of an internal error."),
    ("XDG_CONFIG_HOME", "Where kpipe/config.toml is; without it ~/.config."),
)

FILES = (
    (
        "~/.config/kpipe/config.toml",
        'Clusters by name: tables [clusters.NAME] of librdkafka properties, default = "NAME" for the current one.',
    ),
    ("./kpipe.toml", "The same for a project. It may not name commands that fetch secrets."),
)
