"""What all tests run under: one thread an operation (threads wait for one another on a busy machine), no deadlines, Ctrl-C is heard."""

import os
import signal

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it

settings.register_profile("weft", deadline=None)  # how long an example takes says something of the machine alone
settings.load_profile("weft")


def pytest_configure() -> None:
    """A shell starts what it puts in the background with SIGINT ignored, and children inherit that: tests of Ctrl-C need it heard."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
