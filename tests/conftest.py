"""What all tests run under: one thread an operation (on a busy machine threads wait for one another), and a Ctrl-C that is heard."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it


def pytest_configure() -> None:
    """A shell starts what it puts in the background with SIGINT ignored, and children inherit that: tests of Ctrl-C need it heard."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
