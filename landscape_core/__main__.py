"""The command line: `python -m landscape_core`. Torch and the rest are imported by the command that needs them."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .analyses import ANALYSES, analysis
from .specs import COUNTED, TASKS, InputError, Progress, Result, parse_text, task_fields, task_spec
from .specs.describe import describe, describe_fields, described_tasks
from .specs.imports import WEIGHT_ENDINGS

if TYPE_CHECKING:  # a command imports what it needs
    from .demos import Demo
    from .jobs.compute import Checkpoint
    from .jobs.store import JobView

CANCELLED = 130  # what a shell reports for a program ended by Ctrl-C


class _Failed(Exception):
    """The job failed or was cancelled from elsewhere; it was not what was asked for that was wrong."""


class _Parser(argparse.ArgumentParser):
    """Wrong usage is an InputError like any other wrong input: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--home", help="directory of runs and results (default: $LANDSCAPE_HOME, else .landscape)")
    common.add_argument("--json", action="store_true", help="print JSON instead of words")

    top = _Parser(prog="python -m landscape_core", description="Loss landscapes of trained networks.", parents=[common])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str, **options: Any) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, parents=[common], **options)
        sub.set_defaults(run_command=run)
        return sub

    command("analyses", _analyses, "list every analysis with its fields, defaults and bounds")
    command("tasks", _tasks, "list the tasks, with parameter counts and arguments")

    train = command("train", _train, "train a task and record its trajectory as a run")
    train.add_argument("task", metavar="TASK", help="for example digits-mlp; the command `tasks` lists them")
    train.add_argument("--run", required=True, metavar="NAME", help="name of the run")
    _add_set(train, "--set", "a field of the training or an argument of the task")

    compute = command("compute", _compute, "compute an analysis of checkpoints; the page shows the same results")
    compute.add_argument("analysis", metavar="ANALYSIS", help="the command `analyses` lists them")
    compute.add_argument("sources", metavar="CHECKPOINT", nargs="+", help="RUN@STEP, RUN@last, RUN, or a file with --task")
    _add_set(compute, "--set", "a field of the analysis")
    compute.add_argument("--task", metavar="TASK", help="the task of weights that are given as a file")
    _add_set(compute, "--task-set", "an argument of that task")
    compute.add_argument("--out", metavar="FILE", help="write the result to a file: .npz .json .html .png .csv .vtk")
    compute.add_argument(
        "--view",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a view option of the picture, such as kind=contour or log=true; may be given many times",
    )

    bring = command("import", _import, f"bring in somebody's weights ({' '.join(WEIGHT_ENDINGS)}) as a run")
    bring.add_argument("file", metavar="FILE")
    bring.add_argument("--task", required=True, metavar="TASK", help="the task that the weights belong to")
    bring.add_argument("--run", required=True, metavar="NAME", help="name of the run; an existing one gains a checkpoint")
    bring.add_argument("--step", type=int, default=0, metavar="N", help="the training step of the weights (default 0)")
    _add_set(bring, "--set", "an argument of the task")

    export = command("export", _export, "write the weights of a checkpoint to a .safetensors file")
    export.add_argument("checkpoint", metavar="RUN@STEP")
    export.add_argument("--out", required=True, metavar="FILE", help="a .safetensors file")

    demos = command("demos", _demos, "list the guided demos, or train and compute what they need")
    demos.add_argument("--warm", nargs="*", metavar="NAME", help="train and compute what these demos, or all, need")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 (failed), 2 (bad input, one line on stderr) or 130 (Ctrl-C)."""
    try:
        given = parser().parse_args(arguments)
        given.run_command(given)
        sys.stdout.flush()
    except InputError as error:
        return _complain(error, 2)
    except _Failed as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        print("cancelled; what is computed so far is kept: the same command resumes it", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, sqlite3.Error) as error:
        from .checkpoints.home import chosen_home, disk_words

        words = disk_words(error, chosen_home(getattr(given, "home", None)))
        if words is None:
            raise
        return _complain(_Failed(words), 1)
    return 0


def _complain(error: Exception, code: int) -> int:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return code


# ------------------------------------------------------------------------------------------------------------ reading


def _add_set(sub: argparse.ArgumentParser, flag: str, what: str) -> None:
    sub.add_argument(flag, action="append", default=[], metavar="NAME=JSON", help=f"{what}; may be given many times")


def _settings(texts: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """`["lr=0.1", "widths=[20]"]` as a dict. Raises InputError for what is not name=value or is given twice."""
    values: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InputError(f"{flag} takes name=value, for example {flag} seed=1 (got '{text}')")
        if name in values:
            raise InputError(f"field '{name}' is given twice")
        values[name] = parse_text(value)
    return values


def _home(given: argparse.Namespace) -> Path:
    from .checkpoints.home import home_directory

    return home_directory(getattr(given, "home", None))


def _wants_json(given: argparse.Namespace) -> bool:
    return bool(getattr(given, "json", False))


# ------------------------------------------------------------------------------------------------------------ listing


def _field_lines(fields: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, about in fields.items():
        notes = [f"default {json.dumps(about['default'])}"]
        if about["choices"]:
            notes.append(" | ".join(json.dumps(choice).strip('"') for choice in about["choices"]))
        elif about["range"]:
            notes.append(about["range"])
        if about["unit"]:
            notes.append(about["unit"])
        yield f"    {name}  ({'; '.join(notes)})"
        yield f"        {about['description']}"


def _analyses(given: argparse.Namespace) -> None:
    listed = [item for item in ANALYSES.values() if item.listed]
    if _wants_json(given):
        about = {item.name: describe(item) for item in listed}
        print(json.dumps(about, indent=2))
        return
    for item in listed:
        if item.problem:
            print(f"{item.name}: cannot be used: {item.problem}")
            continue
        print(f"{item.name}: {item.question}")
        print("\n".join(_field_lines(describe_fields(item.spec))))
        for view in item.views:
            choices = " | ".join(view.choices) if view.choices else "true | false"
            print(f"    --view {view.name}  ({json.dumps(view.default_value)}; {choices})")


def _tasks(given: argparse.Namespace) -> None:
    from .tasks.task import parameter_count

    about: dict[str, dict[str, Any]] = {}
    for name in TASKS:
        arguments: dict[str, Any] = {}
        for field, owner in task_fields(name).items():
            arguments |= describe_fields(owner, [field])
        about[name] = {"parameters": parameter_count(task_spec(name)), "arguments": arguments}
    if _wants_json(given):
        print(json.dumps(about, indent=2))
        return
    for name, item in about.items():
        count = "as many as the data need" if item["parameters"] is None else f"{item['parameters']:,} parameters"
        print(f"{name}: {count}; arguments {', '.join(item['arguments'])}")
    for owner, fields in described_tasks(TASKS).items():
        print(f"\n{owner.__doc__}")
        print("\n".join(_field_lines(fields)))


# ---------------------------------------------------------------------------------------------------------- computing


@contextmanager
def _progress(title: str) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar on a terminal, None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.fields[title]}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", title=title, total=None)
        yield lambda item: bars.update(bar, completed=item.done, total=item.total or None, description=item.message)


def _train(given: argparse.Namespace) -> None:
    from .checkpoints.runs import RunStore
    from .jobs.requests import Request
    from .jobs.runner import run_or_join

    home = _home(given)
    request = Request("train", None, {"task": given.task, "run": given.run, **_settings(given.set)})
    request.spec()
    with _progress(f"training {given.run}") as progress:
        view = run_or_join(request, home, progress=progress)
    _require_done(view)
    record = RunStore(home).read(given.run)
    if _wants_json(given):
        print(record.model_dump_json(indent=2))
        return
    last = record.checkpoints[-1]
    print(f"run {record.name}: {record.task}, {record.parameters:,} parameters, {record.state} at step {last.step}")
    print(f"  {len(record.checkpoints)} checkpoints, steps 0 to {last.step}, in {RunStore(home).folder(record.name)}")
    for split in record.sizes:
        loss, accuracy = (last.metrics.get(f"{split}_{name}") for name in ("loss", "accuracy"))
        print(f"  {split} loss {_number(loss)}, accuracy {_number(accuracy)} on {record.sizes[split]:,} samples")
    if record.message:
        print(f"  {record.message}")
    first = next(item for item in ANALYSES.values() if item.listed)
    print(f"next: python -m landscape_core compute {first.name} {record.name}@last")


def _compute(given: argparse.Namespace) -> None:
    from .jobs.compute import Checkpoint, compute
    from .presenting import files

    item = analysis(given.analysis)
    settings, view = _settings(given.set), item.checked_view(_settings(given.view, "--view"))
    item.spec.parse(settings)
    out = None if given.out is None else files.checked(given.out)
    home = _home(given)
    sources = [_source(text, given, home) for text in given.sources]
    results = []
    for source in sources:
        name = Path(source.file).name if isinstance(source, Checkpoint) else source
        try:
            with _progress(f"{item.name} of {name}") as progress:
                results.append(compute(item.name, source, home=home, progress=progress, **settings))
        except RuntimeError as error:
            raise _Failed(error) from None
    if _wants_json(given):
        texts = [files.plain(result) for result in results]
        print(json.dumps(texts[0] if len(texts) == 1 else texts))
    try:
        for result in results:
            if not _wants_json(given):
                print("\n".join(_summary(result)))
        written = files.write(results, out, view) if out else []
    except InputError:
        raise
    except Exception as error:  # in the figure or the reading of somebody's analysis
        raise _Failed(f"{item.name} cannot be shown: {type(error).__name__}: {error}") from error
    if not _wants_json(given):
        for file in written:
            print(f"written to {file}")


def _source(text: str, given: argparse.Namespace, home: Path) -> str | Checkpoint:
    """What `text` names: a checkpoint of a run, or with --task a file of weights."""
    from .checkpoints.runs import RunStore
    from .jobs.compute import Checkpoint

    is_file = os.sep in text or text.endswith(WEIGHT_ENDINGS)
    if given.task is None:
        if given.task_set:
            raise InputError("--task-set belongs to --task, for weights that are given as a file")
        if is_file:
            raise InputError(f"{text} is a file: say which task its weights belong to with --task TASK")
        RunStore(home).resolve(text)
        return text
    if not is_file:
        raise InputError(f"--task is for weights that are given as a file, and '{text}' is not one")
    return Checkpoint(text, given.task, _settings(given.task_set, "--task-set"))


def _require_done(view: JobView) -> None:
    """Raises what fits the state in which the job ended."""
    if view.state == "cancelled":
        raise KeyboardInterrupt
    if view.state != "done":
        kind = InputError if view.bad_input else _Failed
        raise kind(view.error or f"the job is {view.state}; the same command resumes it")


def _summary(result: Result) -> Iterator[str]:
    """A few lines for people: what was computed, what the picture is worth, what it cost."""
    from .presenting import reading

    yield f"{analysis(result.spec['analysis']).title} of {result.spec['source']}"
    for item in reading(result):
        if not item.value:
            continue
        mark = {"ok": " ", "note": "-", "warn": "!"}[item.verdict]
        yield f" {mark} {item.name}: {item.value}" + (f"  ({item.words})" if item.verdict == "warn" else "")
    facts = result.provenance
    counts = ", ".join(f"{count:,} {COUNTED[name][1]}" for name, count in facts.get("counts", {}).items() if count)
    fresh = "from the cache; computed" if facts.get("cached") else "computed"
    yield f"{fresh} in {facts['wall_seconds']:.2f} s on {facts['device']}, {facts['dtype']}: {counts}"


def _import(given: argparse.Namespace) -> None:
    from .tasks.importing import import_weights

    task = task_spec(given.task, **_settings(given.set))
    record = import_weights(Path(given.file), task, given.run, given.step, _home(given))
    if _wants_json(given):
        print(record.model_dump_json(indent=2))
        return
    print(f"run {record.name}: {record.task}, {record.parameters:,} parameters, checkpoint at step {given.step}")
    for name, value in record.checkpoint(given.step).metrics.items():
        print(f"  {name.replace('_', ' ')} {_number(value)}")


def _export(given: argparse.Namespace) -> None:
    from .checkpoints.runs import RunStore
    from .checkpoints.weights import load_weights, save_weights

    file = Path(given.out)
    if file.suffix != ".safetensors":
        raise InputError(f"--out {given.out}: weights are written as .safetensors")
    runs = RunStore(_home(given))
    record, checkpoint = runs.resolve(given.checkpoint)
    tensors = load_weights(runs.folder(record.name) / checkpoint.file, checkpoint.fingerprint)
    digest = save_weights(file.absolute(), tensors)
    about = {"run": record.name, "step": checkpoint.step, "fingerprint": digest, "file": str(file)}
    print(json.dumps(about) if _wants_json(given) else f"{record.name}@{checkpoint.step} written to {file}")


def _demos(given: argparse.Namespace) -> None:
    from .demos import DEMOS, demo

    chosen = [demo(name) for name in given.warm or DEMOS]
    for item in chosen if given.warm is not None else ():
        _warm(item, _home(given))
        if not _wants_json(given):
            print(f"{item.name}: ready", flush=True)
    if _wants_json(given):
        print(json.dumps({item.name: asdict(item) for item in chosen}, indent=2))
    elif given.warm is None:
        for item in chosen:
            fields = ", ".join(f"{name}={json.dumps(value)}" for name, value in item.fields.items())
            print(f"{item.name}: {item.title}\n    {item.lesson}")
            print(f"    trains {', '.join(item.runs)}; computes {item.analysis}{fields and f' ({fields})'}")


def _warm(item: Demo, home: Path) -> None:
    from .jobs.runner import run_or_join

    for request in (*item.trainings(), *item.results()):
        with _progress(request.title) as progress:
            _require_done(run_or_join(request, home, progress=progress))


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
