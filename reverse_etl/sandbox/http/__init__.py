"""HTTP in and out, whatever it is about.

server.py    paths -> calls; the control paths
wire.py      the listening socket, broken answers
faults.py    what goes wrong on demand
limits.py    rate limits: fixed windows
answers.py   what an endpoint gives back
"""
