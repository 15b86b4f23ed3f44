"""Settings of every test: one torch thread, and property tests that repeat themselves exactly."""

import signal

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# a shell starts what it puts in the background with Ctrl-C ignored, which every child inherits;
# with a handler here children have the system's default, as a person's terminal gives them
signal.signal(signal.SIGINT, signal.default_int_handler)

# derandomised, so that a failure is the change's and not the day's; the first call of an operator
# is slow, which is no reason to fail
settings.register_profile(
    "stepfold",
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("stepfold")
