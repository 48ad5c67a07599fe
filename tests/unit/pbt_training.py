"""A training function for population based training, imported by worker processes."""

import os
import signal
import time
from pathlib import Path


class Weights:
    """A model of one number, with torch's words."""

    def __init__(self):
        self.value = 0.0
        self.story = []

    def state_dict(self):
        return {"value": self.value, "story": list(self.story)}

    def load_state_dict(self, state):
        self.value, self.story = state["value"], list(state["story"])


class Optimizer:
    """An optimizer with settings (param_groups) and a state of its own."""

    def __init__(self, rate):
        self.param_groups = [{"params": [0], "lr": rate}]
        self.count = 0

    def state_dict(self):
        return {"state": {"count": self.count}, "param_groups": self.param_groups}

    def load_state_dict(self, state):
        self.count, self.param_groups = state["state"]["count"], state["param_groups"]


def train(config, run):
    """Add the rate at each step; the story lists (trial, step) of all ancestors, for the tests to read."""
    model, opt = Weights(), Optimizer(config["rate"])
    run.track(model=model, opt=opt)
    fuse = Path(os.environ.get("PBT_FUSE", "/nonexistent"))
    for step in range(run.start, run.until):
        time.sleep(float(os.environ.get("PBT_PAUSE", "0")))
        opt.count += 1
        model.value += opt.param_groups[0]["lr"]
        model.story.append([run.number, step + 1])
        if fuse.exists() and step + 1 == 7:
            fuse.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
            os._exit(1)
        run.report(step + 1, loss=-model.value, count=opt.count, steps=len(model.story))
