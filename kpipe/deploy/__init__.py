"""Units that run a command line which works: for systemd, cron, Kubernetes and compose.

Text in, text out: it starts nothing and asks nobody. A secret is only ever a reference.
"""
