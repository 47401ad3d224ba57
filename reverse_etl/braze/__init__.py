"""Braze as its pages describe it, and one request to it. Knows no sync, and no SQL.

modes.py                which call a sync makes, its fields, limits and rules, each with its source
client.py               one request over one connection; what came back, or how far it got
answers.py              what an answer means: which records were taken, and what to do next
rate_limit_headers.py   what its headers say about a rate limit
"""
