"""edx-braze-client: its calls that make, identify and find users, and what it makes of errors."""

import json
import sys

from braze.client import BrazeClient
from braze.exceptions import BrazeClientError

url, key = sys.argv[1:]
client = BrazeClient(api_key=key, api_url=url, app_id="app")
emails = ["hamzah@example.com", "alex@example.com"]


def failed(function, *arguments, **more):
    try:
        return function(*arguments, **more)
    except BrazeClientError as error:
        return {"raised": type(error).__name__, "text": str(error)}


answers = {
    "create_braze_alias": client.create_braze_alias(emails, "Enterprise", attributes=[]),
    "create_recipients": client.create_recipients(
        alias_label="Enterprise",
        user_id_by_email={"hamzah@example.com": "123", "alex@example.com": "231"},
        trigger_properties_by_email={"hamzah@example.com": {"foo": "bar"}, "alex@example.com": {}},
    ),
    "track_user": client.track_user(
        attributes=[{"external_id": "123", "email": "hamzah@example.com", "is_enterprise_learner": True}],
        events=[{"external_id": "123", "name": "enrolled", "time": "2026-11-23T08:15:00Z"}],
    ),
    "get_braze_external_id": client.get_braze_external_id("hamzah@example.com"),
    "get_braze_external_id, unknown": client.get_braze_external_id("nobody@example.com"),
    "get_braze_external_id_batch": client.get_braze_external_id_batch([*emails, "nobody@example.com"], "Enterprise"),
    "identify_users": client.identify_users(
        [{"external_id": "9", "user_alias": {"alias_label": "Enterprise", "alias_name": "nobody@example.com"}}]
    ),
    "track_user, all bad": failed(client.track_user, attributes=[{"is_enterprise_learner": True}]),
    "unsubscribe_user_email": failed(client.unsubscribe_user_email, "hamzah@example.com"),
    "wrong key": failed(
        BrazeClient(api_key="wrong-key", api_url=url, app_id="app").get_braze_external_id, "hamzah@example.com"
    ),
}
json.dump(answers, sys.stdout)
