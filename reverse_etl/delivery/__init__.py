"""Sends batches of records to Braze, and records the result of every request.

batches.py   records -> batches, one request each
sender.py    batches -> workers, within the rate limit; retries what is safe to retry
reading.py   asks Braze about users, in threads, within the rate limit
pacing.py    when the next request may start
retry.py     whether, and when, a batch is retried
waiting.py   what a sender waits for, for those who show progress
journal.py   requests and responses, written so that a killed process loses none of them
destination.py  which workspace a target sends to
sandbox_log.py  what the sandbox has logged of requests
silent_drops.py  what the sandbox accepted and did not store as sent
session.py   a destination and its rate limits, shared by all runs of one command
"""
