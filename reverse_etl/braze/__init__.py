"""Braze as its pages describe it, and one request to it. Knows no sync, and no SQL.

modes.py                the endpoint of every mode, its fields, limits and rules, each with its source
ecommerce.py            the schemas of Braze's e-commerce events
data_types.py           the types that attributes and properties have
names.py                which attributes and events the workspace has
catalogs.py             what a catalog lacks of what a sync needs, and the requests that create it
comparing.py            a profile compared with what was sent to it
subscriptions.py        who has opted out, and users as they are: what to ask, and what the responses say
workspace.py            a workspace: where it is, and with which key
client.py               one request over one connection; its response, or how far it got
wire.py                 HTTP on a socket that is connected
answers.py              what a response means: which records were accepted, and what to do next
rate_limit_headers.py   what the headers of a response say about a rate limit
"""
