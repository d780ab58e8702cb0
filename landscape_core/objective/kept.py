"""What functions and modules keep between calls: found, remembered, compared and put back."""

from __future__ import annotations

import functools
import inspect
import random
import types
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

INSIDE = {"_parameters", "_modules", "_buffers", "_non_persistent_buffers_set", "training"}  # of a module, not its own state
NOTHING = (str, int, float, type, types.ModuleType, nn.Parameter)  # these keep nothing that is looked for
LARGEST = 64 << 20  # bytes of a tensor that is remembered with its content
LIBRARIES = {"torch", "torchvision", "torchaudio", "numpy", "builtins", "functools", "random", "math", "landscape_core"}
Mapped = MutableMapping[str, Any]


class Kept:
    """What `roots` keep: attributes and buffers of modules, variables and globals of functions, containers and generators of
    random numbers in these. `changed()` says what moved since then; `restore()` puts those back, as often as it is asked.
    """

    def __init__(self, roots: Iterable[Any]):
        self._memories: list[_Memory] = []
        for value, name, shared in reached(roots):
            if (memory := _memory(value, name)) is not None:
                memory.shared, memory.value = shared, value
                self._memories.append(memory)

    def changed(self) -> list[str]:
        """The names of what moved; from then on `restore` is about these alone."""
        self._memories = [memory for memory in self._memories if memory.moved()]
        return sorted({memory.name for memory in self._memories})

    @property
    def shared(self) -> bool:
        """Whether any of it belongs to functions, which copies of a module have in common."""
        return any(memory.shared for memory in self._memories)

    @property
    def draws(self) -> bool:
        """Whether any of it is a generator of random numbers."""
        return any(memory.draws for memory in self._memories)

    def again(self) -> None:
        """Remember what moved as it is now."""
        with torch.inference_mode(False):
            for memory in self._memories:
                now = _memory(memory.value, memory.name)
                if now is not None:
                    memory.moved, memory.back = now.moved, now.back

    def restore(self) -> None:
        """Put back what it was."""
        with torch.inference_mode(False):  # ordinary tensors, which count the writes into them
            for memory in self._memories:
                memory.back()


def reached(roots: Iterable[Any]) -> Iterator[tuple[Any, str, bool]]:
    """All that `roots` keep, each once: the value, its name, and whether a function has it, as copies of a module share it."""
    waiting = [(root, "", False) for root in reversed([*roots])]
    seen: set[int] = set()
    while waiting:
        value, name, shared = waiting.pop()
        if id(value) in seen or value is None or isinstance(value, NOTHING):
            continue
        seen.add(id(value))
        shared |= isinstance(value, types.FunctionType)
        yield value, name, shared
        parts = [(inner, part or name, shared) for part, inner in _parts(value)]
        if not isinstance(value, (list, tuple, set)):
            seen |= {id(inner) for inner, _, _ in parts if isinstance(inner, Tensor)}  # remembered by their names
        waiting += reversed(parts)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds that may keep something, with its name where it has one of its own."""
    if isinstance(value, nn.Module):
        for module in value.children():
            yield "", module
        yield from ((f"attribute {key!r}", item) for key, item in vars(value).items() if key not in INSIDE)
        yield from ((f"buffer {key!r}", item) for key, item in value._buffers.items())
        yield from (("", function) for function in methods(type(value)).values())
    elif isinstance(value, types.FunctionType):
        if not of_library(value):
            yield from ((f"variable {key!r}", item) for key, item in variables(value).items())
            yield from ((f"attribute {key!r}", item) for key, item in vars(value).items())
            yield from (
                ("a default argument", item) for item in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
            )
    elif isinstance(value, types.MethodType):
        yield "", value.__func__
        yield "", value.__self__
    elif isinstance(value, functools.partial):
        yield from (("", item) for item in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, dict):
        yield from (("", item) for item in value.values())
    elif isinstance(value, (list, tuple, set)):
        yield from (("", item) for item in value)
    elif not isinstance(value, (Tensor, np.ndarray)) and not of_library(type(value)):
        yield from ((f"attribute {key!r}", item) for key, item in getattr(value, "__dict__", {}).items())
        yield from (("", function) for function in methods(type(value)).values())


def of_library(value: Any) -> bool:
    """Whether a function or class is a library's own: by the package, since people name theirs `math_utils`, `torch_losses`."""
    return (getattr(value, "__module__", None) or "").partition(".")[0] in LIBRARIES


def methods(kind: type) -> dict[str, types.FunctionType]:
    """The functions of a class that a call of it runs by their names: `forward` or `__call__`, what these name, and so on."""
    found: dict[str, types.FunctionType] = {}
    names = ["forward", "__call__"]
    while names:
        name = names.pop()
        function = inspect.getattr_static(kind, name, None)
        if name in found or not isinstance(function, types.FunctionType) or of_library(function):
            continue
        found[name] = function
        names += function.__code__.co_names
    return found


def variables(function: types.FunctionType) -> dict[str, Any]:
    """The variables from outside that a function's code names: those of enclosing functions, and globals."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not yet filled
            continue
    return found | {name: function.__globals__[name] for name in _globals(function)}


def _globals(function: types.FunctionType) -> set[str]:
    names, codes = set(), [function.__code__]
    while codes:
        code = codes.pop()
        names |= {*code.co_names}
        codes += [item for item in code.co_consts if isinstance(item, types.CodeType)]
    return names & function.__globals__.keys()


class _Memory:
    """One value as it was."""

    def __init__(self, name: str, moved: Callable[[], bool], back: Callable[[], None]):
        self.name, self.moved, self.back = name, moved, back
        self.value: Any = None  # what it is of
        self.shared = self.draws = False  # whether it is of functions, and whether it is a generator


def _memory(value: Any, name: str) -> _Memory | None:
    if isinstance(value, Tensor):
        return _tensor(value, name)
    if isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
        found = _generator(value, name)
        found.draws = True
        return found
    if isinstance(value, np.ndarray):
        before = value.copy()
        return _Memory(name, lambda: not np.array_equal(before, value), lambda: np.copyto(value, before))
    if isinstance(value, nn.Module):
        own = {key: item for key, item in vars(value).items() if key not in INSIDE}
        both = (_Names(vars(value), INSIDE, own), _Names(value._buffers, set(), dict(value._buffers)))
        return _names(name, *both)
    if isinstance(value, types.FunctionType):
        if of_library(value):
            return None
        cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        inner = {key: item for key, item in variables(value).items() if key in cells}
        outer = {key: item for key, item in variables(value).items() if key not in cells}
        named = _Names(vars(value), set(), dict(vars(value)))
        return _names(name, _Cells(cells, inner), _Named(value.__globals__, outer), named)
    if isinstance(value, dict):
        return _names(name, _Names(value, set(), dict(value)))
    if isinstance(value, (list, set)):
        items = value.copy()
        return _Memory(name, lambda: not _same(items, value), lambda: _refill(value, items))
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and not of_library(type(value)):
        return _names(name, _Names(held, set(), dict(held)))
    return None


def _tensor(value: Tensor, name: str) -> _Memory | None:
    if not _is_plain(value):
        return None
    version, before = value._version, value.detach().clone()

    def back() -> None:
        with torch.no_grad():
            value.detach().copy_(before)

    return _Memory(name, lambda: value._version != version, back)


def _is_plain(value: Tensor) -> bool:
    """Whether it is remembered with its content."""
    own = not isinstance(value, nn.Parameter) and not value.is_inference() and value.layout == torch.strided
    return own and not value.is_nested and value.nbytes <= LARGEST


def _generator(value: Any, name: str) -> _Memory:
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return _Memory(name, lambda: not torch.equal(state, value.get_state()), lambda: void(value.set_state(state)))
    if isinstance(value, random.Random):
        was = value.getstate()
        return _Memory(name, lambda: was != value.getstate(), lambda: value.setstate(was))
    bits = value.bit_generator if isinstance(value, np.random.Generator) else value._bit_generator
    before = bits.state
    return _Memory(name, lambda: str(before) != str(bits.state), lambda: setattr(bits, "state", before))


def void(_: Any) -> None:
    """Nothing, of a call that returns something."""


class _Names:
    """Names in a dictionary, but for some of them."""

    def __init__(self, place: Mapped, without: set[str], was: dict[str, Any]):
        self.place, self.without, self.was = place, without, was
        held = {key: item for key, item in was.items() if isinstance(item, Tensor) and _is_plain(item)}
        self.tensors = {key: (item._version, item.detach().clone()) for key, item in held.items()}

    def now(self) -> dict[str, Any]:
        return {key: item for key, item in self.place.items() if key not in self.without}

    def put(self, key: str, value: Any) -> None:
        self.place[key] = value

    def drop(self, key: str) -> None:
        del self.place[key]


class _Named(_Names):
    """Some names in a dictionary alone: the globals that a function names."""

    def __init__(self, place: Mapped, was: dict[str, Any]):
        super().__init__(place, set(), was)

    def now(self) -> dict[str, Any]:
        return {key: self.place[key] for key in self.was if key in self.place}


class _Cells(_Names):
    """Variables of enclosing functions."""

    def __init__(self, cells: dict[str, Any], was: dict[str, Any]):
        super().__init__({}, set(), was)
        self._cells = cells

    def now(self) -> dict[str, Any]:
        found = {}
        for key, cell in self._cells.items():
            try:
                found[key] = cell.cell_contents
            except ValueError:
                continue
        return found

    def put(self, key: str, value: Any) -> None:
        self._cells[key].cell_contents = value

    def drop(self, key: str) -> None:
        del self._cells[key].cell_contents


def _names(name: str, *places: _Names) -> _Memory:
    found = _Memory(name, lambda: False, lambda: None)

    def moved() -> bool:
        for place in places:
            now = place.now()
            for key in {*now, *place.was}:
                written = key in place.tensors and place.was[key]._version != place.tensors[key][0]
                if key not in now or key not in place.was or written or not _same(now[key], place.was[key]):
                    kind = "variable" if isinstance(place, (_Named, _Cells)) else "attribute"
                    found.name = f"{kind} {key!r}" if isinstance(key, str) else name
                    return True
        return False

    def back() -> None:
        for place in places:
            now = place.now()
            for key in now.keys() - place.was.keys():
                place.drop(key)
            for key, item in place.was.items():
                if key in place.tensors and item._version != place.tensors[key][0]:
                    # A new one, since graphs of earlier calls may hold what was written into.
                    place.put(key, place.tensors[key][1].clone())
                elif key not in now or now[key] is not item:
                    place.put(key, item)

    found.moved, found.back = moved, back
    return found


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, (bool, int, float, str, tuple, bytes)) and type(a) is type(b):
        try:
            return bool(a == b)
        except (RuntimeError, ValueError):  # tensors in a tuple
            return False
    if isinstance(a, (list, set)) and type(a) is type(b) and len(a) == len(b):
        return all(_same(x, y) for x, y in zip(a, b, strict=True))
    return False


def _refill(value: Any, items: Any) -> None:
    value.clear()
    (value.extend if isinstance(value, list) else value.update)(items)
