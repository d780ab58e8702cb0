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

from .kept import LIBRARIES, variables

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
            return value if (value.__module__ or "").startswith(LIBRARIES) else self._function(value)
        if isinstance(value, types.MethodType):
            inner = self(value.__self__)
            return value if inner is value.__self__ else types.MethodType(value.__func__, inner)
        if isinstance(value, functools.partial):
            parts = [self(value.func), self(value.args), self(value.keywords)]
            same = all(a is b for a, b in zip(parts, (value.func, value.args, value.keywords), strict=True))
            return value if same else functools.partial(parts[0], *parts[1], **parts[2])
        if id(value) in self._shared:
            return value
        if type(value) is dict:
            items = {key: self(item) for key, item in value.items()}
            return items if any(items[key] is not value[key] for key in value) else value
        if type(value) in (list, tuple):
            made = [self(item) for item in value]
            return type(value)(made) if any(a is not b for a, b in zip(made, value, strict=True)) else value
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
        return own

    def _function(self, value: types.FunctionType) -> types.FunctionType:
        outer = variables(value)
        made = {
            name: self(item) for name, item in outer.items() if not isinstance(item, types.FunctionType) or item is not value
        }
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
        held = getattr(value, "__dict__", None)
        if not isinstance(held, dict) or isinstance(value, PLAIN) or type(value).__module__.startswith(LIBRARIES):
            return value
        items = {key: self(item) for key, item in held.items()}
        if all(items[key] is held[key] for key in held):
            return value
        own = copy.copy(value)
        vars(own).update(items)
        return own


def swaps(model: nn.Module, own: nn.Module, given: nn.Module) -> dict[int, Any]:
    """What of a model, by identity, stands for what of its private copy; `given` is what it came wrapped in."""
    found: dict[int, Any] = {id(a): b for a, b in zip(model.modules(), own.modules(), strict=True)}
    names = dict(own.named_parameters(remove_duplicate=False))
    found |= {id(p): names[name] for name, p in model.named_parameters(remove_duplicate=False)}
    return found | {id(given): own}
