"""The way from this machine to others. Knows no Braze, no project; opens no connection.

network.py   which proxy and which certificates a connection goes by: `Network`, made from the environment
proxies.py   the variables that name proxies, and the hosts that are reached without one
faults.py    why a connection could not be made, what to do about it, and whether trying again may help
"""
