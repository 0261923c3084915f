"""Acting on a pipeline: steering it while it samples, mitigations, the guard."""

from pointland.mitigate.steering import Counter, Rule, Step, counting, steered

__all__ = ["Counter", "Rule", "Step", "counting", "steered"]
