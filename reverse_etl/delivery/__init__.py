"""Gets batches of records to Braze, and writes down what came of each.

batches.py   records -> batches, one request each
sender.py    batches -> workers, within the rate limit; tries again what may be tried again
pacing.py    when the next request may start
retry.py     whether, and when, a batch is tried again
journal.py   what was sent and answered, written so that a killed process loses none of it
session.py   a destination and its rate limits, shared by all runs of one command
"""
