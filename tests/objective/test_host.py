"""What is used of the host: no result depends on it, and it can be left out."""

import json
import os
import platform
import subprocess
import sys

import pytest
import torch

from landscape_core.objective import host

# Takes and gives back 160 MiB, twice, and says how many pages were new the second time (of 40,960).
PROGRAM = """
import json, resource, torch
from landscape_core.objective import host

def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(1 << 21) for _ in range(20)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
with host.tuned(torch.float32, torch.device("cpu")):
    use()
    again = use()
print(json.dumps({"faults": again, **host.facts()}))
"""


def run(tuning: str) -> dict:
    environment = os.environ | {"LANDSCAPE_HOST_TUNING": tuning}
    found = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of the GNU C library")
def test_memory_is_kept_for_the_next_tensors_and_can_be_given_back():
    kept, plain = run("1"), run("0")
    assert (kept["kept_memory"], plain["kept_memory"], plain["onednn_products"]) == (True, False, False)
    assert kept["faults"] < 10_000 < plain["faults"]


def test_tuning_leaves_products_exact_and_settings_as_they_were():
    setting = host._products()
    before = setting and setting.fp32_precision
    a, b = (torch.randn(200, 300, generator=torch.Generator().manual_seed(i)) for i in range(2))
    with host.tuned(torch.float32, torch.device("cpu")):
        product = a @ b.T
        assert not setting or setting.fp32_precision == ("bf16" if host.onednn_products() else before)
    assert not setting or setting.fp32_precision == before
    exact = a.double() @ b.double().T
    assert (product - exact).abs().max() <= 1e-4


def test_threads_that_cross_leave_the_setting_as_it_was(monkeypatch):
    class Setting:
        fp32_precision = "ieee"

    monkeypatch.setattr(host, "_products", lambda: Setting)
    switch = host._Switch()
    for by, expected in ((1, "bf16"), (1, "bf16"), (-1, "bf16"), (-1, "ieee"), (1, "bf16"), (-1, "ieee")):
        switch.turn(by)
        assert Setting.fp32_precision == expected
