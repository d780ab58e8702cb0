"""Jobs: requests and their keys, the store of jobs, the cache of results, and who runs them. No torch but in a job."""
