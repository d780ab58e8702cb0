"""A private copy of a loss: what it closes over in the Objective's arithmetic, on its device, and the caller's model in it
replaced by the private one.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from .kept import INSIDE, methods, of_library, variables

PLAIN = (type, types.ModuleType, types.BuiltinFunctionType)  # these refer to nothing of a loss


class Own:
    """`own(loss)` is the loss with `swap` (by identity: modules and parameters of the caller's model) and `cast` (its tensors)
    applied to all that it refers to: arguments of a partial, variables of functions, attributes, default arguments. What refers
    to nothing of the kind is given back as it is. `swapped` then says whether anything of `swap` was found; containers in
    `shared` stay the same objects, since a model writes into them.
    """

    def __init__(self, swap: Mapping[int, Any], cast: Callable[[Tensor], Tensor], shared: set[int]):
        self._swap, self._cast, self._shared = swap, cast, shared
        self._done: dict[int, tuple[Any, Any]] = {}  # the value itself is kept, so that its identity is not given away
        self.swapped = False

    def __call__(self, value: Any) -> Any:
        if id(value) in self._swap:
            self.swapped = True
            return self._swap[id(value)]
        if id(value) in self._done:
            return self._done[id(value)][1]
        self._done[id(value)] = (value, value)  # where it refers to itself
        found = self._made(value)
        self._done[id(value)] = (value, found)
        return found

    def _made(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._cast(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, types.FunctionType):
            return value if of_library(value) else self._function(value)
        if isinstance(value, types.MethodType):
            inner, function = self(value.__self__), self(value.__func__)
            same = inner is value.__self__ and function is value.__func__
            return value if same else types.MethodType(function, inner)
        if isinstance(value, functools.partial):
            parts = [self(value.func), self(value.args), self(value.keywords)]
            same = all(a is b for a, b in zip(parts, (value.func, value.args, value.keywords), strict=True))
            return value if same else functools.partial(parts[0], *parts[1], **parts[2])
        if id(value) in self._shared:
            return value
        if isinstance(value, dict):
            items = {key: self(item) for key, item in value.items()}
            if all(items[key] is value[key] for key in value):
                return value
            own = copy.copy(value)  # of its own class
            own.update(items)
            return own
        if type(value) in (list, tuple, set) or (isinstance(value, tuple) and hasattr(value, "_fields")):
            given = [*value]
            made = [self(item) for item in given]
            if all(a is b for a, b in zip(made, given, strict=True)):
                return value
            return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
        return self._object(value)

    def _module(self, value: nn.Module) -> nn.Module:
        inside = {id(m) for m in value.modules()} | {id(p) for p in value.parameters()}
        self.swapped |= bool(inside & self._swap.keys())
        own = copy.deepcopy(value, dict(self._swap))
        theirs = {id(item) for item in self._swap.values()}
        for module in own.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in theirs:
                    module._parameters[name] = nn.Parameter(self._cast(parameter.detach()), parameter.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None and id(module) not in theirs:
                    module._buffers[name] = self._cast(buffer)
            if id(module) not in theirs:
                self._class(module)
        return own

    def _function(self, value: types.FunctionType) -> types.FunctionType:
        outer = variables(value)
        made = {name: self(item) for name, item in outer.items()}
        defaults, named = self(value.__defaults__), self(value.__kwdefaults__)
        new = {name: item for name, item in made.items() if item is not outer[name]}
        if not new and defaults is value.__defaults__ and named is value.__kwdefaults__:
            return value
        names = value.__code__.co_freevars
        cells = tuple(
            types.CellType(new[name]) if name in new else cell
            for name, cell in zip(names, value.__closure__ or (), strict=True)
        )
        globals_ = value.__globals__
        if others := {name: item for name, item in new.items() if name not in names}:
            globals_ = {**globals_, **others}
        own = types.FunctionType(value.__code__, globals_, value.__name__, defaults, cells)
        own.__kwdefaults__ = named
        own.__dict__.update(value.__dict__)
        own.__module__, own.__qualname__ = value.__module__, value.__qualname__
        return own

    def _object(self, value: Any) -> Any:
        if isinstance(value, PLAIN) or of_library(type(value)):
            return value
        held = _attributes(value)
        items = {key: self(item) for key, item in held.items()}
        own = copy.copy(value) if held or hasattr(value, "__dict__") else value
        if not self._class(own) and all(items[key] is held[key] for key in held):
            return value
        for key, item in items.items():
            object.__setattr__(own, key, item)  # a frozen dataclass too
        return own

    def _class(self, own: Any) -> bool:
        """Give an object a class of its own, where functions of its class name what is replaced; whether there were any."""
        kind = type(own)
        found = methods(kind)
        new = {name: f for name, function in found.items() if (f := self(function)) is not function}
        if new:
            own.__class__ = type(kind.__name__, (kind,), {"__slots__": (), **new, "__module__": kind.__module__})
        return bool(new)


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds, in slots too."""
    slots = [name for kind in type(value).__mro__ for name in _names(vars(kind).get("__slots__", ()))]
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})


def _names(slots: Any) -> list[str]:
    names = [slots] if isinstance(slots, str) else [*slots]
    return [name for name in names if not name.startswith("__")]


def swaps(model: nn.Module, own: nn.Module, given: nn.Module) -> dict[int, Any]:
    """What of a model, by identity, stands for what of its private copy; `given` is what it came wrapped in."""
    found: dict[int, Any] = {id(a): b for a, b in zip(model.modules(), own.modules(), strict=True)}
    names = dict(own.named_parameters(remove_duplicate=False))
    found |= {id(p): names[name] for name, p in model.named_parameters(remove_duplicate=False)}
    for a, b in zip(model.modules(), own.modules(), strict=True):
        for key, item in vars(a).items():  # what a model fills, and a loss refers to beside it
            if key not in INSIDE and isinstance(item, (dict, list)) and not key.startswith("_"):
                found[id(item)] = vars(b).get(key, item)
    return found | {id(given): own}
