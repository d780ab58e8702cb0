"""Jobs: requests and their keys, the store of jobs, the cache of results, and who runs them. No torch but in a job."""

from .requests import Request
from .results import ResultCache
from .runner import run_all, run_or_join
from .store import JobStore, JobView

__all__ = ["JobStore", "JobView", "Request", "ResultCache", "run_all", "run_or_join"]
