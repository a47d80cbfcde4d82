"""One thread an operation: the tensors of tests are too small to share, and on a busy machine threads wait for one another."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it
