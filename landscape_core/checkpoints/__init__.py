"""Runs and weights on disk. `home` and `runs` never import torch, so the web process may read them; the others do.

Import from the modules themselves: this file stays empty so that reading a run costs no torch.
"""
