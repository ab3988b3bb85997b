"""A Deployment for a run that goes on, a CronJob for one that ends; and what scales it by lag.

Printed as YAML of JSON's own kind (every string in quotes), which every reader of YAML takes alike. Sources of the
rules: the Kubernetes API reference (apps/v1, batch/v1, autoscaling/v2), KEDA's Apache Kafka scaler.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kpipe.deploy.commandline import PERMANENT
from kpipe.deploy.cron import NIGHTLY, check_schedule
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from kpipe.deploy.commandline import CommandLine

PORT = 9400
USER = 65532
LAG = 10_000
"""Records of lag for each process at which another one is started; KEDA's own default of 10 is far too small."""


def manifests(
    line: CommandLine, version: str, *, image: str, replicas: int, schedule: str, scale: str, most: int
) -> str:
    """All objects, as one YAML stream."""
    if line.bounded:
        if scale:
            raise UsageError("--scale is for a run that goes on; this one ends by itself")
        objects = [_cron_job(line, image, schedule)]
    else:
        if (replicas > 1 or scale) and not line.group:
            raise UsageError("several processes share partitions only in a group; add -G GROUP")
        objects = [_deployment(line, image, replicas)]
        if scale == "keda":
            objects.append(_keda(line, replicas, most))
        elif scale == "hpa":
            objects.append(_hpa(line, replicas, most))
    head = [
        f"# kpipe {version}: {line.typed}",
        f"# The configuration comes from a ConfigMap: kubectl create configmap {line.name} --from-file=config.toml",
    ]
    head += [f'# In it the secret {name} is password_file = "/run/secrets/kpipe/{name}".' for name in line.credentials]
    return "\n".join(head) + "\n" + "".join(f"---\n{to_yaml(each)}" for each in objects)


def _deployment(line: CommandLine, image: str, replicas: int) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "kpipe", "app.kubernetes.io/instance": line.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": line.name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            # One goes before the next comes: each start and stop moves partitions.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": labels}, "spec": _pod(line, image, probes=True)},
        },
    }


def _cron_job(line: CommandLine, image: str, schedule: str) -> dict[str, Any]:
    pod = _pod(line, image, probes=False)
    pod["restartPolicy"] = "Never"
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": line.name},
        "spec": {
            "schedule": check_schedule(schedule or NIGHTLY),
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 3,
                    "podFailurePolicy": {
                        "rules": [
                            {
                                "action": "FailJob",
                                "onExitCodes": {"containerName": "kpipe", "operator": "In", "values": list(PERMANENT)},
                            }
                        ]
                    },
                    "template": {"spec": pod},
                }
            },
        },
    }


def _pod(line: CommandLine, image: str, *, probes: bool) -> dict[str, Any]:
    mounts = [
        {"name": "config", "mountPath": "/etc/kpipe", "readOnly": True},
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - the container's own
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": line.name}},
        {"name": "scratch", "emptyDir": {}},
    ]
    if line.credentials:
        mounts.append({"name": "secrets", "mountPath": "/run/secrets/kpipe", "readOnly": True})
        volumes.append({"name": "secrets", "projected": {"defaultMode": 0o440, "sources": _secrets(line)}})
    memory = f"{line.memory >> 20}Mi"
    container: dict[str, Any] = {
        "name": "kpipe",
        "image": image,
        "args": [*line.arguments, *(["--metrics", f"0.0.0.0:{PORT}"] if probes else [])],
        "env": [{"name": "KPIPE_CONFIG", "value": "/etc/kpipe/config.toml"}],
        "resources": {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}},
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if probes:
        container["ports"] = [{"name": "metrics", "containerPort": PORT}]
        # Alive: the loop turns. It says nothing of brokers, or an outage would restart the whole fleet.
        container["livenessProbe"] = _probe("/healthz", 20, 3)
        container["readinessProbe"] = _probe("/readyz", 10, 3)
        container["startupProbe"] = _probe("/healthz", 5, 24)
    return {
        "terminationGracePeriodSeconds": line.stop_seconds,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }


def _probe(path: str, every: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": every,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _secrets(line: CommandLine) -> list[dict[str, Any]]:
    sources = []
    for name, where in line.credentials.items():
        secret, sign, key = where.partition("/")
        if not (sign and secret and key):
            raise UsageError(f"--credential {name}={where}: for k8s write NAME=SECRET/KEY")
        sources.append({"secret": {"name": secret, "items": [{"key": key, "path": name}]}})
    return sources


def _keda(line: CommandLine, least: int, most: int) -> dict[str, Any]:
    topics = [topic for topic in line.sources if not topic.startswith("^")]
    if not topics or not line.brokers:
        raise UsageError(
            "--scale keda asks the brokers for the lag of a topic; name topics without ^, and -b HOST:PORT"
        )
    triggers = [
        {
            "type": "kafka",
            "metadata": {
                "bootstrapServers": line.brokers,
                "consumerGroup": line.group,
                "topic": topic,
                "lagThreshold": str(LAG),
                "activationLagThreshold": "1",
                # KEDA's default is latest; what the group does without an offset is what it must count.
                "offsetResetPolicy": "earliest" if line.from_beginning else "latest",
                "limitToPartitionsWithLag": "true",
            },
        }
        for topic in topics
    ]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": line.name},
        "spec": {
            "scaleTargetRef": {"name": line.name},
            # Never to none: a group without members is found late, and each start moves partitions.
            "minReplicaCount": max(1, least),
            "maxReplicaCount": most,
            "cooldownPeriod": 300,
            "triggers": triggers,
        },
    }


def _hpa(line: CommandLine, least: int, most: int) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": line.name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": line.name},
            "minReplicas": max(1, least),
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "kpipe_lag_records"},
                        "target": {"type": "AverageValue", "averageValue": str(LAG)},
                    },
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    }


def to_yaml(value: Any, indent: int = 0) -> str:
    """Block YAML with JSON's scalars; what stands here needs no more."""
    pad = "  " * indent
    if isinstance(value, dict):
        return "".join(_member(f"{pad}{key}:", each, indent) for key, each in value.items())
    return "".join(_item(pad, each, indent) for each in value)


def _member(start: str, value: Any, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        deeper = indent + 1 if isinstance(value, dict) else indent
        return f"{start}\n{to_yaml(value, deeper)}"
    return f"{start} {json.dumps(value, ensure_ascii=False)}\n"


def _item(pad: str, value: Any, indent: int) -> str:
    if isinstance(value, dict) and value:
        inner = to_yaml(value, indent + 1)
        return f"{pad}- {inner[len(pad) + 2 :]}"
    return f"{pad}- {json.dumps(value, ensure_ascii=False)}\n"
