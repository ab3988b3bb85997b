"""The names of the commands, in the order of a first reading, and what each is for in one line.

It imports none of them.
"""

from __future__ import annotations

COMMANDS = {
    "produce": "Send stdin or files to a topic.",
    "consume": "Print the records of topics.",
    "forward": "Send records from topics to a topic, here or on another cluster.",
    "tail": "Show the last records of topics, and what comes, for people.",
    "find": "Find records by key, content or place, and say how much was searched.",
    "stat": "Say what the records of a topic are like: sizes, keys, headers, JSON, times.",
    "trace": "Show the way of one record back over the clusters, or find its copies.",
    "topics": "List topics: how much there is, how long it is kept, what is wrong.",
    "groups": "Show how far groups are behind, in records and in time.",
    "dump": "Keep a topic as files: records, settings, positions of groups; goes on where it stopped.",
    "load": "Send a dump to a topic, every record once, and compare.",
    "admin": "Change a cluster: offsets of groups, topics, records; shown before it is done.",
    "schema": "Look at schemas of a registry, check one before a deploy, add it.",
    "check": "Say what is wrong between here and a cluster, and what to try.",
    "config": "Show, find, start and import the configuration of clusters.",
    "verify": "Compare a copy of a topic with its source.",
    "broker": "Serve an embedded broker, in memory, for a first try.",
    "transforms": "List the transforms, each with an example.",
    "plugins": "List the plugins that are installed beside kpipe.",
    "unit": "Print a unit for systemd, cron, Kubernetes or compose that runs a command line.",
    "completion": "Print or install the completion of a shell.",
    "man": "Show or install the manual.",
}
SUMMARY = "The pipe fitting between Unix and Apache Kafka: nothing lost, nothing silently changed, every record traced."
