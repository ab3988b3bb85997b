"""What options mean together: this needs that, this excludes that.

It opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.options import ForwardOptions, SelectionOptions
    from kpipe.transform.step import Step


def check_modes(
    options: ForwardOptions, selection: SelectionOptions, trace: str, spill: str, steps: Sequence[Step]
) -> None:
    """Contradictions that can be seen before anything is opened."""
    if options.exactly_once:
        if options.resume_by_trace:
            raise UsageError("--exactly-once needs no --resume-by-trace; drop it")
        if not selection.group:
            raise UsageError("--exactly-once commits the offsets of a group; add -G GROUP")
        if [text for text in selection.partitions if text != "same"]:
            raise UsageError("--exactly-once needs the group to share the partitions out; drop -p")
        if spill:
            raise UsageError(
                "--exactly-once leaves nothing to spill: what is not committed is read again; drop --spill"
            )
    if options.resume_by_trace:
        if trace == "none":
            raise UsageError("--resume-by-trace reads the trace headers; drop --trace none")
        if options.to_origin:
            raise UsageError("--resume-by-trace looks at one target; --to-origin has many")
        many = next(
            (step.name for step in steps if step.name in ("split", "route", "rename-topic", "through-json")), None
        )
        if many is not None:
            raise UsageError(f"--resume-by-trace needs one record in TARGET for each source record; drop --{many}")
