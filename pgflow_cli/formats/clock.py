"""The clocks of everything that measures time in a process with user code."""

from __future__ import annotations

import functools
import time

# Taken at import, and held where freezegun does not look: a handler that replaces or
# freezes time would stop the clock of its whole process, and each lease would seem to
# have run out long ago, or never to run out.
monotonic = functools.partial(time.monotonic)
since_epoch = functools.partial(time.time)
sleep = functools.partial(time.sleep)
thread_time = functools.partial(time.thread_time)
