"""The rules of Braze that the sandbox implements, each with the page that states it and the tests that hold it.

`docs/generate.py` writes it into docs/sandbox.md; tests/sandbox/test_sandbox_docs.py compares it with tests and code.
The keys of SOURCES are also in parentheses beside the rules in reverse_etl/sandbox. `guess` is not a page: it marks
what Braze's pages do not specify and the sandbox had to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_API = "_docs/_api/endpoints"
_GUIDE = "_docs/_user_guide/data/activation/attributes"
_ITEMS = f"{_API}/catalogs/catalog_items"
SOURCES: Mapping[str, str] = {  # paths are in the repository braze-inc/braze-docs
    "track": f"{_API}/user_data/post_user_track.md",
    "sync": f"{_API}/user_data/post_user_track_synchronous.md",
    "limits": "braze.com/docs/api/api_limits",
    "limits-old": "_docs/_api/api_limits.md, _includes/rate_limits.md",
    "attr": "_docs/_api/objects_filters/user_attributes_object.md",
    "event": "_docs/_api/objects_filters/event_object.md",
    "purch": "_docs/_api/objects_filters/purchase_object.md",
    "alias-obj": "_docs/_api/objects_filters/user_alias_object.md",
    "alias": f"{_API}/user_data/post_user_alias.md",
    "alias-upd": f"{_API}/user_data/post_users_alias_update.md",
    "identify": f"{_API}/user_data/post_user_identify.md",
    "delete": f"{_API}/user_data/post_user_delete.md",
    "merge": f"{_API}/user_data/post_users_merge.md",
    "merging": "braze.com/docs/user_guide/audience/manage_audience/merge_duplicate_users/merge_behavior",
    "rename": f"{_API}/user_data/external_id_migration/post_external_ids_rename.md",
    "remove": f"{_API}/user_data/external_id_migration/post_external_ids_remove.md",
    "sub1": f"{_API}/subscription_groups/post_update_user_subscription_group_status.md",
    "sub2": f"{_API}/subscription_groups/post_update_user_subscription_group_status_v2.md",
    "subget": f"{_API}/subscription_groups/get_list_user_subscription_group_status.md",
    "subuser": f"{_API}/subscription_groups/get_list_user_subscription_groups.md",
    "export": f"{_API}/export/user_data/post_users_identifier.md",
    "export-old": "the same page before August 2024",
    "errors": "_docs/_api/errors.md, braze.com/docs/api/errors",
    "basics": "_docs/_api/basics.md",
    "mailval": "braze.com/docs/user_guide/channels/email/email_setup/email_validation",
    "userdata": "braze.com/docs/api/endpoints/user_data",
    "types": f"{_GUIDE}/data_types.md",
    "types-live": "braze.com/docs/user_guide/data/activation/custom_data/data_types",
    "manage": "braze.com/docs/user_guide/data/activation/custom_data/managing_custom_data",
    "std": "braze.com/docs/user_guide/data/activation/attributes/standard_attributes",
    "lang": "_includes/supported_language_codes.md",
    "cattr": f"{_GUIDE}/custom_attributes.md",
    "types-faq": "braze.com/docs/user_guide/data/activation/custom_data/managing_custom_data/faq",
    "aoo": f"{_GUIDE}/array_of_objects.md",
    "nca": f"{_GUIDE}/nested_custom_attribute_support.md",
    "cevent": "_docs/_user_guide/data/activation/events/custom_events.md, custom_events/nested_objects.md",
    "pevent": "_docs/_user_guide/data/activation/events/purchase_events.md",
    "ecom": "braze.com/docs/user_guide/data/activation/events/recommended_events",
    "ecomsdk": "braze.com/docs/developer_guide/analytics/logging_ecommerce_events",
    "rel": "braze.com/docs/whats_new/2026/6_25_26",
    "dp": "_docs/_user_guide/data/data_points.md",
    "life": "_docs/_user_guide/data/unification/user_data/user_profile_lifecycle.md",
    "websdk": ("braze.com/docs/developer_guide/platform_integration_guides/web/analytics/setting_custom_attributes"),
    "cdi": "_docs/_user_guide/data/unification/cloud_ingestion/best_practices.md",
    "getattr": f"{_API}/export/custom_attributes/get_custom_attributes.md",
    "getattr-live": "braze.com/docs/api/endpoints/export/custom_attributes/get_custom_attributes",
    "getev": f"{_API}/export/custom_events/get_custom_events.md",
    "prod": f"{_API}/export/purchases/get_list_product_id.md",
    "catalog": "braze.com/docs/user_guide/personalization_and_dynamic_content/catalogs/catalog",
    "cat-create": f"{_API}/catalogs/catalog_management/synchronous/post_create_catalog.md",
    "cat-list": f"{_API}/catalogs/catalog_management/synchronous/get_list_catalogs.md",
    "cat-delete": f"{_API}/catalogs/catalog_management/synchronous/delete_catalog.md",
    "cat-fields": f"{_API}/catalogs/catalog_fields/asynchronous/post_create_catalog_fields.md",
    "cat-field-delete": f"{_API}/catalogs/catalog_fields/asynchronous/delete_catalog_field.md",
    "cat-items": f"{_ITEMS}/asynchronous/post_create_catalog_items_bulk.md",
    "cat-patch": f"{_ITEMS}/asynchronous/patch_catalog_items_bulk.md, {_ITEMS}/synchronous/patch_catalog_item.md",
    "cat-put": f"{_ITEMS}/asynchronous/put_update_catalog_items.md, {_ITEMS}/synchronous/put_update_catalog_item.md",
    "cat-delete-items": f"{_ITEMS}/asynchronous/delete_catalog_items_bulk.md",
    "cat-post": f"{_ITEMS}/synchronous/post_create_catalog_item.md",
    "cat-delete-item": f"{_ITEMS}/synchronous/delete_catalog_item.md",
    "cat-get": f"{_ITEMS}/synchronous/get_catalog_item_details.md",
    "cat-list-items": f"{_ITEMS}/synchronous/get_catalog_items_details_bulk.md",
    "rec21": "*seen*: HTTP recordings of November 2021 in grouparoo/grouparoo, plugins/@grouparoo/braze",
    "meas26": "*seen*: a measurement on a staging workspace, September 2026, in leemour/brazecli",
    "clients": "*seen*: segmentio/action-destinations, rudderlabs/rudder-transformer, npm braze-api",
    "rud26": "*seen*: answers that the tests of rudderlabs/rudder-transformer quote, 2026",
    "ticket": "*seen*: a documentation ticket list on error texts of /users/track",
}
GUESS = "guess"


@dataclass(frozen=True)
class Rule:
    """One row of the table. `sources` and `tests` are separated by spaces; tests are named without their `test_`."""

    text: str
    sources: str
    tests: str


FILES = ("track", "ecommerce", "people", "catalogs", "http", "exact", "faults")  # tests/sandbox/test_sandbox_*.py
RULES: Mapping[str, tuple[Rule, ...]] = {
    "Keys, paths, bodies": (
        Rule(
            "An unknown API key gets a 401 whose body echoes the key; a key in quotes is unknown",
            "errors meas26",
            "unknown_key_is_a_401_that_echoes_it",
        ),
        Rule(
            "A key without the endpoint's permission gets a 403 `Access Denied`",
            "errors",
            "key_without_the_permission_is_a_403",
        ),
        Rule("Permissions are those in the table of endpoints", "basics", "each_endpoint_asks_for_its_permission"),
        Rule(
            "A slash at the end of a path gets a 403 `Access Denied`: the page names it as a cause of such an error",
            "errors guess",
            "slash_at_the_end_of_a_path_looks_like_a_missing_permission",
        ),
        Rule(
            "Any other path or method gets a 404; the error text is a guess", "errors guess", "anything_else_is_a_404"
        ),
        Rule(
            "A body that is not a JSON object gets a 400 and changes nothing; the error text is a guess",
            "errors guess",
            "body_that_is_no_json_object_is_a_400_and_changes_nothing "
            "very_deep_value_is_dropped_or_refused_and_spoils_nothing no_body_breaks_the_server "
            "no_json_breaks_an_endpoint no_json_breaks_a_catalog",
        ),
        Rule(
            "A body larger than 4 MB gets a 413; that MB means 10^6 bytes is a guess",
            "limits userdata guess",
            "body_over_4_mb_is_a_413_and_one_of_4_mb_is_not",
        ),
        Rule(
            "Numbers keep all their digits, and strings all of Unicode",
            GUESS,
            "integers_of_64_bits_come_back_exactly decimals_of_38_digits_come_back_digit_for_digit "
            "decimal_keeps_its_own_way_of_writing any_unicode_text_comes_back nested_values_come_back "
            "any_unicode_names_a_user_and_an_event profile_reads_decimals_exactly",
        ),
    ),
    "Rate limits": (
        Rule(
            "Windows are fixed and start at multiples of their length; three lower-case headers describe them; a "
            "request over the limit gets a 429",
            "limits rec21",
            "limit_is_counted_in_fixed_windows_and_told_in_lower_case_headers "
            "reset_of_a_short_window_is_rounded_up date_header_follows_the_clock_of_the_limits",
        ),
        Rule(
            "With a contract by monthly active users (`--contract mau`), /users/track has a limit per hour and one per "
            "3 s; the headers describe the hour only, `X-RateLimit-Reset` in seconds left; a 429 has none of them, but "
            "`X-Ratelimit-Retry-After`. The limits themselves are a guess",
            "track limits guess",
            "contract_by_active_users_tells_the_hour_in_seconds_left_and_at_429_only_how_long_to_wait",
        ),
        Rule(
            "What other clients of the workspace use (`--others`) counts, and the headers show it; that they do so "
            "evenly is a guess",
            "limits guess",
            "others_use_up_a_limit_evenly_and_the_headers_show_it",
        ),
        Rule("A request over the limit changes nothing", "limits", "request_over_the_limit_changes_nothing"),
        Rule(
            "The default limits are those in the table of endpoints; that bad requests count is a guess",
            "limits guess",
            "default_limits_are_those_of_braze_and_bad_requests_count general_limit_is_hourly "
            "catalogs_have_limits_of_their_own",
        ),
        Rule(
            "alias/new, alias/update, identify, merge and delete share one limit; both versions of "
            "subscription/status/set share another",
            "limits limits-old",
            "family_shares_one_limit",
        ),
        Rule(
            "The bulk endpoints of catalog items share one limit; single items and lists share another",
            "limits",
            "single_items_and_lists_share_a_limit_and_many_items_have_another",
        ),
        Rule(
            "Exports with `fields_to_export` have a separate limit, unless those include received messages",
            "limits",
            "light_exports_have_a_limit_of_their_own_until_exports_are_limited_together",
        ),
        Rule("Requests with a rejected key do not count", GUESS, "refused_key_does_not_count"),
        Rule("With several windows, the headers describe the tightest", GUESS, "tightest_of_several_windows_is_told"),
    ),
    "/users/track: responses": (
        Rule(
            "201 with a counter for each array that was sent; rejected objects are identified by `type`, "
            "`input_array` and `index`, and the others are processed",
            "track meas26 clients",
            "answer_counts_what_was_taken_and_names_what_was_refused counter_appears_only_for_an_array_that_was_sent",
        ),
        Rule(
            "A request without a valid object gets a 400 with the errors of all objects",
            "clients",
            "request_without_one_valid_object_is_refused_with_its_errors request_with_nothing_in_it_is_refused",
        ),
        Rule(
            "`Max Input Length Exceeded` for more than 75 objects in total; with some contracts 75 per array, or "
            "50 in total",
            "limits track errors",
            "object_limit_follows_the_contract",
        ),
        Rule(
            "An object needs one identifier, and at most one strong one; an external id has at most 987 bytes",
            "track meas26 clients rud26",
            "attributes_object_is_refused longest_id_and_all_that_a_profile_may_have_are_taken "
            "identifiers_of_events_and_purchases_have_the_same_errors",
        ),
        Rule(
            "An attributes object is rejected for its `email`, `email_subscribe`, `push_subscribe`, "
            "`subscription_groups`, `current_location`, `push_tokens`, its token import, or a field "
            "`email_subscription_info`: with the text that was seen, or else the code of the page. Any UUID is a "
            "subscription group, and any string an app: guesses",
            "track meas26 clients ticket attr guess",
            "attributes_object_is_refused longest_id_and_all_that_a_profile_may_have_are_taken null_is_no_error",
        ),
        Rule(
            "Which external ids Braze has blocked is not known; `--fault object_error:external_ids=u1` rejects objects "
            "in the same way",
            "track life",
            "id_that_braze_has_blocked_is_refused_as_a_fault_says",
        ),
        Rule(
            "An email is validated by its syntax; that any letters are a top-level domain is a guess",
            "mailval guess",
            "email_is_taken_by_its_syntax_or_the_object_is_refused",
        ),
        Rule(
            "An event needs a name and a time; properties named `time` or `event_name`, or larger than 100 KB "
            "with arrays or objects, make it invalid",
            "event cevent pevent",
            "event_is_refused",
        ),
        Rule(
            "A purchase needs a product of at most 255 characters, a currency of ISO 4217, a price and a time; a "
            "quantity must be from 1 to 100; reserved properties make it invalid; most error texts are a guess",
            "purch pevent ecom guess",
            "purchase_is_refused",
        ),
    ),
    "/users/track: which user is meant": (
        Rule(
            "An unknown external id creates a user, unless `_update_existing_only` is true; an unknown alias only "
            "if it is false; a braze_id never; a phone must be valid",
            "track attr cdi",
            "unknown_user_is_made_or_the_object_does_nothing whole_profile_of_a_user_that_an_object_made",
        ),
        Rule(
            "Events and purchases create users in the same way (for aliases, Braze's pages disagree)",
            "event purch",
            "events_and_purchases_make_users_as_attributes_do",
        ),
        Rule("An alias or a braze_id finds its user", "track", "alias_and_braze_id_find_the_user"),
        Rule(
            "If several users share an email, the most recently updated one with an external id is meant, or of "
            "all if none has one",
            "track",
            "email_finds_the_latest_user_with_an_id_before_all_others email_finds_the_latest_user_where_none_has_an_id",
        ),
        Rule("Email takes precedence over phone", "track cdi", "email_wins_over_phone_which_is_then_a_field"),
        Rule(
            "A user created by one object exists for the next object in the same request",
            GUESS,
            "user_made_by_one_object_is_found_by_the_next_of_the_same_request",
        ),
        Rule(
            "`push_token_import`: known tokens are ignored, others create an anonymous user",
            "attr",
            "unknown_push_token_makes_an_anonymous_user_and_a_known_one_is_ignored",
        ),
    ),
    "/users/track: attributes": (
        Rule(
            "Standard fields accept what their page documents; other values are silently not set (for most fields, the "
            "page does not say what happens to them); an invalid phone is kept",
            "attr std lang websdk merge clients guess",
            "standard_field_is_kept_if_it_fits_and_else_dropped_in_silence",
        ),
        Rule(
            "A country that cannot be mapped becomes null; that of all names only `Australia` can is a guess",
            "attr guess",
            "unmappable_country_becomes_null",
        ),
        Rule("Names of standard fields are case-sensitive", "attr", "names_of_standard_fields_are_case_sensitive"),
        Rule("null removes a value", "attr", "null_removes_standard_fields_and_custom_attributes"),
        Rule(
            "`inc`; arrays of unique elements with `add` and `remove`; arrays of objects with `$add`, `$remove` "
            "and `$update`, applied in this order",
            "attr types aoo",
            "custom_attribute_becomes",
        ),
        Rule(
            "An object replaces the stored one; with `_merge_objects`, it is merged at all depths",
            "nca cdi",
            "merge_objects_merges_at_all_depths",
        ),
        Rule(
            "A bad value drops only the update of its own attribute, and the response is a success: strings over "
            "255 characters, more than 100 KB, a nested null or invalid `$time`, invalid keys, operators that do "
            "not fit",
            "track sync types nca aoo attr",
            "bad_value_drops_the_update_of_its_attribute_alone nested_time_stays_within_the_year_3000",
        ),
        Rule("A name has 1 to 255 characters", "websdk", "attribute_with_a_bad_name_is_dropped"),
        Rule("Spaces around a name are cut off", "cattr", "spaces_around_a_name_are_cut_off"),
        Rule("An array keeps its latest 500 elements", "types", "array_of_more_than_500_loses_its_oldest"),
        Rule("An array of objects may be longer", "aoo", "array_of_objects_may_be_longer_than_500"),
        Rule(
            "An array of objects and other values is kept as it is (no page names it)",
            "guess",
            "array_of_objects_and_other_values_is_kept_as_it_is",
        ),
        Rule(
            "The first type seen for an attribute applies, for all users; a value of another type is converted, "
            "and listed as a silent drop (Braze documents this for types set in the dashboard)",
            "types-faq manage guess",
            "value_is_converted_to_the_first_seen_type_with_a_warning "
            "type_of_an_attribute_holds_for_all_users_and_outlives_its_values type_drift_can_be_let_through",
        ),
        Rule("... or dropped if it cannot be converted", "types-faq cdi", "first_seen_type_of_an_attribute_wins"),
        Rule("Date-times are accepted in seven formats; without a time zone, they are UTC", "attr", "moment_reads"),
        Rule(
            "A subscription change applies to all users with the same email",
            "track",
            "subscription_change_spreads_over_a_shared_email",
        ),
        Rule(
            "Every attribute written counts as a data point, by the rules of legacy billing",
            "dp guess",
            "attributes_and_data_points_are_counted counts_name_everything",
        ),
    ),
    "/users/track: events and purchases": (
        Rule("Identical events are separate events", "track", "equal_events_are_separate_events"),
        Rule("A purchase of quantity n counts as n purchases", "purch", "purchase_of_quantity_three_counts_as_three"),
        Rule("A time in the future becomes the current time", "event", "time_in_the_future_becomes_now"),
        Rule(
            "Property names have 1 to 255 characters and no leading `$`, strings at most 255 characters; other "
            "properties are dropped",
            "event cevent guess",
            "bad_property_is_dropped_alone",
        ),
        Rule("At most 256 properties; the rest are ignored", "event cevent", "more_than_256_properties_are_ignored"),
        Rule(
            "The order within a request is attributes, events, purchases",
            "limits",
            "attributes_come_before_events_and_purchases",
        ),
    ),
    "/users/track: e-commerce events": (
        Rule(
            "The six recommended events have closed schemas: required and optional properties with their types, in "
            "`products` and `discounts` too; free ones in `metadata` only; `total_value` is optional in a cart that "
            "adds or removes",
            "ecom ecomsdk",
            "event_of_its_schema_is_kept_and_costs_no_data_point event_without_a_required_property_is_refused "
            "property_of_another_event_is_refused total_of_a_changed_cart_is_optional",
        ),
        Rule(
            "An event that misses its schema is rejected whole, with texts of JSON Schema; only those for missing and "
            "additional properties and for types were seen, the others, and that the first error is the one listed, "
            "are guesses",
            "ecom rud26 guess",
            "event_against_its_schema_is_refused null_is_not_a_value_of_a_schema",
        ),
        Rule("Their properties may have 102,400 bytes", "ecom", "event_may_be_larger_than_others"),
        Rule("They cost no data points", "rel ecom", "event_of_its_schema_is_kept_and_costs_no_data_point"),
        Rule(
            "Any other name that begins with `ecommerce.` is a custom event, without a check",
            "ecom",
            "other_spelling_is_a_custom_event_like_any_other",
        ),
    ),
    "Aliases": (
        Rule(
            "With a known external id, the alias is attached to its user; with an unknown one, nothing happens; "
            "without one, an alias-only user is created",
            "alias",
            "alias_is_attached_to_a_known_user_and_made_alone_without_id",
        ),
        Rule(
            "(name, label) is unique: a second user does not get it",
            "life",
            "alias_that_is_taken_changes_nothing",
        ),
        Rule("One name per label, any number of labels", "alias-obj", "user_has_one_alias_for_each_of_many_labels"),
        Rule(
            "An alias, an identification, a merge, a renamed alias or a change of a group that changes nobody, and an "
            "ambiguous deletion, are successes; they are listed as silent drops, unless what they ask for is so "
            "already. A deletion of an unknown user is not listed",
            "alias life errors identify merge delete sub2",
            "alias_is_attached_to_a_known_user_and_made_alone_without_id alias_that_is_taken_changes_nothing "
            "identify_leaves_identified_and_unknown_users_alone merge_of_unknown_or_same_users_does_nothing "
            "v2_sets_a_group_for delete_by_an_email_that_stays_ambiguous_deletes_nobody",
        ),
        Rule("Only the malformed entry is rejected, not the others", GUESS, "bad_alias_is_refused_alone"),
        Rule(
            "alias/update renames known pairs and ignores others; its response is a guess",
            "alias-upd guess",
            "alias_update_renames_known_pairs_only",
        ),
        Rule(
            "At most 50 entries, here and in identify, merge, delete, rename, remove, subscriptions and exports",
            "alias errors merge",
            "fifty_are_taken_and_fifty_one_refused",
        ),
        Rule(
            "Missing, empty or malformed arrays make the whole request invalid; the error texts are a guess",
            "merge guess",
            "request_is_refused_as_a_whole",
        ),
    ),
    "Identify, merge, delete": (
        Rule(
            "identify gives an unknown external id to the anonymous user",
            "identify",
            "identify_gives_an_unknown_id_to_the_anonymous_user",
        ),
        Rule(
            "... and moves what only the anonymous user has to a known user; the anonymous user disappears",
            "identify",
            "identify_moves_what_only_the_anonymous_user_has",
        ),
        Rule(
            "... unless both have an alias with the same label",
            "identify",
            "identify_does_not_combine_users_with_an_alias_of_the_same_label",
        ),
        Rule(
            "... and does nothing, without an error, for users who are already identified, or unknown",
            "errors guess",
            "identify_leaves_identified_and_unknown_users_alone",
        ),
        Rule(
            "Emails and phones are resolved by `prioritization`; ambiguous ones do nothing",
            "identify",
            "identify_by_email_follows_the_prioritization",
        ),
        Rule(
            "Entries without an external id, or with conflicting priorities, are rejected in a 201",
            "clients",
            "identify_refuses_entries_at_a_201",
        ),
        Rule(
            "merge returns 202; the kept user receives what it lacks, and events and purchases are added up",
            "merge merging",
            "merge_takes_over_what_is_missing_and_adds_up",
        ),
        Rule(
            "... and keeps the earlier first session and the later last one",
            "merge",
            "merge_keeps_the_earlier_first_and_the_later_last_session",
        ),
        Rule(
            "... and does nothing if a user is unknown, or if both are the same",
            GUESS,
            "merge_of_unknown_or_same_users_does_nothing",
        ),
        Rule("delete: `deleted` counts ids, not users", "rec21", "delete_counts_ids_and_not_users"),
        Rule(
            "Deletion is final: the same id is then a new user",
            "delete",
            "deleted_user_comes_back_empty_and_under_a_new_braze_id",
        ),
        Rule("One kind of identifier per request, out of five", "delete", "delete_takes_every_kind_of_identifier"),
        Rule(
            "An email or phone to delete needs a prioritization, without `least_recently_updated`",
            "delete",
            "request_is_refused_as_a_whole",
        ),
        Rule(
            "An email that remains ambiguous deletes no user",
            "delete",
            "delete_by_an_email_that_stays_ambiguous_deletes_nobody",
        ),
        Rule(
            "rename: the new id must be unused and different, and the old one stays valid until it is removed; "
            "errors are listed by index",
            "rename remove",
            "renamed_id_stays_valid_until_it_is_removed",
        ),
        Rule("A deprecated id deletes its user too", "rename", "deprecated_id_deletes_its_user_too"),
    ),
    "Subscription groups": (
        Rule(
            "v2 sets several groups, by external ids, emails or phones in E.164 format; all users who share an email "
            "or a phone change",
            "sub2",
            "v2_sets_a_group_for",
        ),
        Rule("v1 sets one group; ids can be a string or an array", "sub1", "v1_sets_a_group_for"),
        Rule("The latest state applies", "sub1", "latest_state_of_a_group_holds"),
        Rule(
            "Email and phone together are an error; other errors reject the whole request too; the error texts "
            "are a guess",
            "sub1 guess",
            "bad_subscription_change_is_refused_with_all_others",
        ),
        Rule(
            "status/get returns `Subscribed`, `Unsubscribed` or `Unknown`, by external id, email or phone; "
            "external ids take precedence",
            "subget guess",
            "subscription_state_is_read_back_capitalised",
        ),
        Rule(
            "user/status returns all groups of users; users who share an email are listed separately; `limit` and "
            "`offset` apply",
            "subuser clients",
            "groups_of_users_are_read_back_and_users_with_one_email_are_told_apart user_without_a_state_has_no_groups",
        ),
        Rule(
            "Invalid queries are rejected; the error texts are a guess",
            "subget guess",
            "bad_subscription_query_is_refused",
        ),
    ),
    "/users/export/ids": (
        Rule(
            "201; empty fields are absent; events and purchases of 90 days are summarized as name, first, last "
            "and count; unknown ids are in `invalid_user_ids`",
            "export rec21",
            "export_gives_the_fields_that_were_asked_for_and_are_set",
        ),
        Rule(
            "Users are selected by ids, aliases, and one of device, email and phone",
            "export",
            "export_selects_by export_names_each_user_once_and_unknown_aliases",
        ),
        Rule("Push tokens are exported", "export clients", "export_shows_push_tokens"),
        Rule(
            "`fields_to_export` is required, except with contracts from before August 2024 "
            "(`export_needs_fields=False`)",
            "export export-old",
            "export_without_fields_has_all_of_them_by_an_older_contract",
        ),
        Rule(
            "With `read_lag_s`, exports and the states of groups are as they were so many seconds ago, in Braze about "
            "half a minute. Without it, they are as of now",
            "clients",
            "what_is_read_is_as_old_as_the_lag",
        ),
    ),
    "Catalogs": (
        Rule(
            "Catalogs are created (201), listed (200) and deleted (200), with the responses that the pages show",
            "cat-create cat-list cat-delete",
            "catalog_is_made_listed_and_deleted catalog_counts_its_items_and_is_updated_with_them "
            "items_of_a_deleted_catalog_do_not_come_back",
        ),
        Rule(
            "Names, descriptions, fields and their types are validated, each with its own error",
            "cat-create",
            "bad_catalog_is_refused",
        ),
        Rule(
            "An unknown catalog gets a 404 `catalog-not-found`", "cat-delete", "unknown_catalog_is_a_404_with_a_reason"
        ),
        Rule(
            "Fields are added (202), up to 50 at once and 500 in total",
            "cat-fields",
            "fields_are_added_and_deleted_with_their_values bad_fields_are_refused catalog_has_at_most_500_fields",
        ),
        Rule(
            "... and deleted (202), except `id`",
            "cat-field-delete guess",
            "id_and_unknown_fields_are_not_deleted",
        ),
    ),
    "Names": (
        Rule(
            "/custom_attributes: 50 per page in the order of their names, with type, status and the longest array, a "
            "`Link` header and a cursor; the words for types other than `Number`, and the cursor, are guesses",
            "getattr guess",
            "attributes_are_listed_in_pages_of_50_with_links attributes_are_listed_with_their_types",
        ),
        Rule(
            "/events/list and /purchases/product_list: names only, 250 per page, pages count from 0; order, and the "
            "size of a page of products, are guesses",
            "getev prod guess",
            "events_and_products_are_listed_by_name",
        ),
        Rule("All of them share 1,000 requests per hour", "getattr-live", "lists_of_names_share_one_limit"),
    ),
    "Catalog items": (
        Rule(
            "Single items: POST 201, PATCH 200, PUT 200, DELETE 202, GET 200",
            "cat-post cat-patch cat-put cat-delete-item cat-get",
            "item_is_made_read_changed_replaced_and_deleted",
        ),
        Rule("PUT creates an unknown item", "cat-put", "put_makes_an_unknown_item"),
        Rule(
            "POST of an existing item gets the error `item-already-exists`", "cat-post", "known_item_is_not_made_again"
        ),
        Rule(
            "An unknown item gets the error `item-not-found`: a 404, or a 400 with DELETE",
            "cat-get cat-delete-item",
            "unknown_item_is_told",
        ),
        Rule(
            "One item per request, without its id, with known fields only",
            "cat-post cat-patch cat-put",
            "bad_item_is_refused",
        ),
        Rule(
            "Values are stored in the type of their field, converted if possible; which conversions are possible "
            "is a guess",
            "cat-items types-live catalog guess",
            "value_is_kept_in_the_type_of_its_field geolocation_is_longitude_and_latitude",
        ),
        Rule(
            "... and otherwise rejected: the type, more than 5,000 characters, keys with `.` or `$`, more than 50 "
            "levels, more than 100 strings in an array",
            "cat-items types-live",
            "value_that_does_not_fit_its_field_is_refused object_of_50_levels_is_kept array_does_not_grow_beyond_100",
        ),
        Rule("`$add` and `$remove` work on arrays, in PATCH only", "cat-patch", "bad_change_of_an_array_is_refused"),
        Rule(
            "Bulk endpoints: POST, PATCH, PUT, DELETE, all 202",
            "cat-items cat-patch cat-put cat-delete-items",
            "items_are_made_changed_replaced_and_deleted catalog_is_a_table_of_items_whatever_the_order_of_calls",
        ),
        Rule(
            "In bulk calls, items that cannot be processed are silently skipped",
            GUESS,
            "what_cannot_be_done_with_many_items_is_dropped_in_silence",
        ),
        Rule(
            "At most 50 items; ids must be present, strings of at most 250 letters, digits, `-` and `_`, and unique",
            "cat-items",
            "bad_items_are_refused_with_all_others fifty_items_are_taken "
            "items_with_unknown_fields_are_named_and_all_refused",
        ),
        Rule(
            "Lists have 50 items per page, a `Link` header and a cursor",
            "cat-list-items",
            "items_come_in_pages_of_50_with_links fifty_items_are_one_page_without_links bad_cursor_is_refused",
        ),
    ),
}
