"""One thread an operation: the tensors of tests are too small to share, and threads that wait for one another on a busy machine are slow."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it
