"""Somebody is told when what becomes of a sync changes.

decide     what is to be told, from what is so and what was told last; pure
messages   the texts; pure
memory     what is so, and what was told last, in a private file
channels   Slack, a webhook, mail: one message out, within seconds
tell       the story: note results, decide, tell, remember; the heartbeat
"""
