"""How often, and after how long, a batch is retried. Pure: the caller supplies clock and random numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to retry a batch, and the bounds of the waits between attempts."""

    tries: int = 6
    give_up_after_s: float = 300
    throttled_give_up_after_s: float = 3900  # an hourly rate limit has room again within the hour
    first_wait_s: float = 0.5
    max_wait_s: float = 30


def next_wait_s(attempt: int, elapsed_s: float, policy: RetryPolicy, jitter: float) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    `attempt` counts from 1 after the first failure. `jitter` is a number in [0, 1), drawn by the caller: the wait lies
    between half of what doubling gives and all of it.
    """
    if attempt >= policy.tries or elapsed_s >= policy.give_up_after_s:
        return None
    full_s = min(policy.max_wait_s, policy.first_wait_s * 2.0 ** (attempt - 1))
    return full_s * (0.5 + jitter / 2)
