"""What a job needs of ours, imported once before processes are forked: the computations of all analyses."""

import importlib
from contextlib import suppress

from ...analyses import ANALYSES
from .. import execute as execute

for _item in ANALYSES.values():
    with suppress(Exception, SystemExit):  # a broken one is said by its own job
        importlib.import_module(f"{_item.package}.compute")
