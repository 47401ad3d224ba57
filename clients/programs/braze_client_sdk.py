"""braze-client-sdk: both examples of its README, and its other calls of users."""

import json
import sys

from braze import Braze

url, key = sys.argv[1:]
braze = Braze(host=url, token=key)
alias = {"alias_name": "example_alias", "alias_label": "example_label"}
answers = {
    "users.track": braze.users.track(
        content={"attributes": [{"external_id": "hello-world", "first_name": "Hello world"}]}
    ),
    "users.export.ids": braze.users.export.ids(
        content={"external_ids": ["hello-world"], "fields_to_export": ["external_id", "first_name"]}
    ),
    "users.delete": braze.users.delete(content={"external_ids": ["hello-world"]}),
    "users.alias.new": braze.users.alias.new(content={"user_aliases": [alias]}),
    "users.alias.update": braze.users.alias.update(
        content={
            "alias_updates": [
                {
                    "alias_label": "example_label",
                    "old_alias_name": "example_alias",
                    "new_alias_name": "example_new_alias_name",
                }
            ]
        }
    ),
    "users.identify": braze.users.identify(
        content={
            "aliases_to_identify": [
                {
                    "external_id": "external_identifier",
                    "user_alias": {**alias, "alias_name": "example_new_alias_name"},
                }
            ],
            "merge_behavior": "merge",
        }
    ),
    "users.merge": braze.users.merge(
        content={
            "merge_updates": [
                {
                    "identifier_to_merge": {"external_id": "external_identifier"},
                    "identifier_to_keep": {"external_id": "current-user1"},
                }
            ]
        }
    ),
}
json.dump(answers, sys.stdout)
