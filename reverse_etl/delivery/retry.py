"""How often, and after how long, one batch is tried again. Pure: the caller brings clock and chance."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try one batch again: so many tries, over so many seconds, waiting between two bounds."""

    tries: int = 6
    give_up_after_s: float = 300
    throttled_give_up_after_s: float = 3900  # an hourly limit opens again within the hour
    first_wait_s: float = 0.5
    max_wait_s: float = 30


def next_wait_s(attempt: int, elapsed_s: float, policy: RetryPolicy, jitter: float) -> float | None:
    """Seconds to wait before the next try, or None to give up.

    `attempt` counts from 1 after the first failure. `jitter` is a number in [0, 1), drawn by the caller: the wait lies
    between half of what doubling gives and all of it.
    """
    if attempt >= policy.tries or elapsed_s >= policy.give_up_after_s:
        return None
    full_s = min(policy.max_wait_s, policy.first_wait_s * 2.0 ** (attempt - 1))
    return full_s * (0.5 + jitter / 2)
