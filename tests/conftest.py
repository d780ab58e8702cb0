"""What all tests share."""

import os

# Small networks on two threads mostly wait for each other, above all beside browsers and job processes on two cores. Tests of
# threads set their number themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
