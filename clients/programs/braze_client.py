"""braze-client: the example of its README, its other calls, and what it makes of errors."""

import json
import sys

from braze.client import BrazeClient, BrazeClientError

url, key = sys.argv[1:]
client = BrazeClient(api_key=key, api_url=url, use_auth_header=True)


def failed(function, **arguments):
    try:
        return function(**arguments)
    except BrazeClientError as error:
        return {"raised": type(error).__name__, "arguments": list(error.args)}


answers = {
    "user_track": client.user_track(
        attributes=[
            {
                "external_id": "1",
                "first_name": "First name",
                "last_name": "Last name",
                "email": "email@example.com",
                "status": "Active",
            }
        ],
        events=None,
        purchases=None,
    ),
    "user_export": client.user_export(external_ids=["1"], fields_to_export=["first_name", "custom_attributes"]),
    "user_export, by e-mail": client.user_export(email="email@example.com", fields_to_export=["external_id"]),
    "user_track, one bad": client.user_track(
        attributes=[{"external_id": "1", "status": "Gone"}, {"status": "Nobody"}], events=None, purchases=None
    ),
    "user_track, all bad": failed(client.user_track, attributes=[{"status": "Nobody"}]),
    "user_delete": client.user_delete(external_ids=["1"]),
    "wrong key": failed(BrazeClient(api_key="wrong-key", api_url=url).user_delete, external_ids=["1"]),
}
json.dump(answers, sys.stdout)
