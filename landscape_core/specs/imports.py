"""What can be asked of bringing in weights that were uploaded: a job like any other."""

from __future__ import annotations

import re
from typing import Any

from pydantic import SerializeAsAny

from .base import Spec, field
from .tasks import TaskSpec, task_spec

UPLOADS = "uploads"  # under the home directory, named by the SHA-256 of what they hold

WEIGHT_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt")  # of the files that weights are read from


class ImportSpec(Spec):
    """Put uploaded weights into a run of a task, as its checkpoint at a step."""

    run: str = field("run", "Name of the run.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    task: SerializeAsAny[TaskSpec] = field(TaskSpec(), "The task that the weights belong to.")
    step: int = field(0, "The training step of the weights.", unit="steps", ge=0, le=10**8 - 1)
    upload: str = field(
        "0" * 64 + ".safetensors",
        "The uploaded file: the SHA-256 of its contents, and its ending.",
        pattern=rf"^[0-9a-f]{{64}}({'|'.join(map(re.escape, WEIGHT_ENDINGS))})$",
    )


def import_spec(task: str, run: str, *, remote: bool = False, **values: Any) -> ImportSpec:
    """An ImportSpec from flat values: `step`, `upload`, and the arguments of the task. Raises InputError."""
    own = {name: value for name, value in values.items() if name in ("step", "upload")}
    built = task_spec(task, remote=remote, **{name: value for name, value in values.items() if name not in own})
    return ImportSpec.parse({"run": run, "task": built, **own}, remote=remote)
