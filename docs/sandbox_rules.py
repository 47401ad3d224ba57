"""What the sandbox takes over from Braze: each rule, the page that states it, the tests that hold it.

`docs/generate.py` writes it into docs/sandbox.md; tests/sandbox/test_sandbox_docs.py compares it with tests and code.
The keys of SOURCES stand in parentheses beside the rules in reverse_etl/sandbox too. `guess` is no page: where Braze's
are silent, and the sandbox has to do something, the row says so.
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
    "userdata": "braze.com/docs/api/endpoints/user_data",
    "types": f"{_GUIDE}/data_types.md",
    "types-live": "braze.com/docs/user_guide/data/activation/custom_data/data_types",
    "types-faq": "braze.com/docs/user_guide/data/activation/custom_data/managing_custom_data/faq",
    "aoo": f"{_GUIDE}/array_of_objects.md",
    "nca": f"{_GUIDE}/nested_custom_attribute_support.md",
    "cevent": "_docs/_user_guide/data/activation/events/custom_events.md, custom_events/nested_objects.md",
    "pevent": "_docs/_user_guide/data/activation/events/purchase_events.md",
    "dp": "_docs/_user_guide/data/data_points.md",
    "life": "_docs/_user_guide/data/unification/user_data/user_profile_lifecycle.md",
    "websdk": ("braze.com/docs/developer_guide/platform_integration_guides/web/analytics/setting_custom_attributes"),
    "cdi": "_docs/_user_guide/data/unification/cloud_ingestion/best_practices.md",
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
    "ticket": "*seen*: a documentation ticket list on error texts of /users/track",
}
GUESS = "guess"


@dataclass(frozen=True)
class Rule:
    """One line of the table. `sources` and `tests` are words with blanks between; a test goes without its `test_`."""

    text: str
    sources: str
    tests: str


FILES = ("track", "people", "catalogs", "http", "exact", "faults")  # tests/sandbox/test_sandbox_*.py
RULES: Mapping[str, tuple[Rule, ...]] = {
    "Keys, paths, bodies": (
        Rule(
            "An unknown key is a 401 whose body echoes it; a key in quotes is unknown",
            "errors meas26",
            "unknown_key_is_a_401_that_echoes_it",
        ),
        Rule(
            "A key without the endpoint's permission is a 403 `Access Denied`",
            "errors",
            "key_without_the_permission_is_a_403",
        ),
        Rule("Permissions as in the table of endpoints", "basics", "each_endpoint_asks_for_its_permission"),
        Rule("Any other path or method is a 404; its text", "errors guess", "anything_else_is_a_404"),
        Rule(
            "A body that is no JSON object is a 400 and changes nothing; its text",
            "errors guess",
            "body_that_is_no_json_object_is_a_400_and_changes_nothing "
            "very_deep_value_is_dropped_or_refused_and_spoils_nothing no_body_breaks_the_server "
            "no_json_breaks_an_endpoint no_json_breaks_a_catalog",
        ),
        Rule(
            "A body of more than 4 MB is a 413; MB as 10^6 bytes",
            "limits userdata guess",
            "body_over_4_mb_is_a_413_and_one_of_4_mb_is_not",
        ),
        Rule(
            "Numbers keep all their digits, texts all of Unicode",
            GUESS,
            "integers_of_64_bits_come_back_exactly decimals_of_38_digits_come_back_digit_for_digit "
            "decimal_keeps_its_own_way_of_writing any_unicode_text_comes_back nested_values_come_back "
            "any_unicode_names_a_user_and_an_event profile_reads_decimals_exactly",
        ),
    ),
    "Rate limits": (
        Rule(
            "Windows are fixed, at multiples of their length; three headers in lower case; a 429 over the limit",
            "limits rec21",
            "limit_is_counted_in_fixed_windows_and_told_in_lower_case_headers "
            "reset_of_a_short_window_is_rounded_up date_header_follows_the_clock_of_the_limits",
        ),
        Rule("A request over the limit changes nothing", "limits", "request_over_the_limit_changes_nothing"),
        Rule(
            "Limits by default as in the table of endpoints; bad requests count",
            "limits guess",
            "default_limits_are_those_of_braze_and_bad_requests_count general_limit_is_hourly "
            "catalogs_have_limits_of_their_own",
        ),
        Rule(
            "alias/new, alias/update, identify, merge and delete share one limit; both subscription/status/set another",
            "limits limits-old",
            "family_shares_one_limit",
        ),
        Rule(
            "Many catalog items have one limit, single items and lists another",
            "limits",
            "single_items_and_lists_share_a_limit_and_many_items_have_another",
        ),
        Rule(
            "Exports with `fields_to_export`, and no messages received among them, have a limit of their own",
            "limits",
            "light_exports_have_a_limit_of_their_own_until_exports_are_limited_together",
        ),
        Rule("Requests with a refused key do not count", GUESS, "refused_key_does_not_count"),
        Rule("Of several windows the headers tell the tightest", GUESS, "tightest_of_several_windows_is_told"),
    ),
    "/users/track: answers": (
        Rule(
            "201 with a counter for each array that was sent; refused objects are named by `type`, `input_array`, "
            "`index`, and the others go on",
            "track meas26 clients",
            "answer_counts_what_was_taken_and_names_what_was_refused counter_appears_only_for_an_array_that_was_sent",
        ),
        Rule(
            "400 if no object is valid, with the errors of each",
            "clients",
            "request_without_one_valid_object_is_refused_with_its_errors request_with_nothing_in_it_is_refused",
        ),
        Rule(
            "`Max Input Length Exceeded` over 75 objects together; by contract 75 per array, or 50 together",
            "limits track errors",
            "object_limit_follows_the_contract",
        ),
        Rule(
            "An attributes object needs one identifier, and one strong one at most; states of e-mail and push, device "
            "ids and imported tokens are checked",
            "track meas26 clients ticket attr",
            "attributes_object_is_refused",
        ),
        Rule(
            "An event needs a name and a time; properties called `time` or `event_name`, or of more than 100 KB "
            "with arrays or objects, refuse it",
            "event cevent pevent",
            "event_is_refused",
        ),
        Rule(
            "A purchase needs a product of 255 characters at most, a currency of three letters, a price, a quantity "
            "from 1 to 100 if any, a time; reserved properties refuse it. Texts",
            "purch pevent guess",
            "purchase_is_refused",
        ),
    ),
    "/users/track: whom it means": (
        Rule(
            "An unknown external id makes a user, unless `_update_existing_only` is true; an unknown alias does only "
            "if it is false; a braze_id never does; a phone must be valid",
            "track attr cdi",
            "unknown_user_is_made_or_the_object_does_nothing whole_profile_of_a_user_that_an_object_made",
        ),
        Rule(
            "Events and purchases make users in the same way (for aliases the pages disagree)",
            "event purch",
            "events_and_purchases_make_users_as_attributes_do",
        ),
        Rule("An alias or a braze_id finds its user", "track", "alias_and_braze_id_find_the_user"),
        Rule(
            "Of users who share an e-mail, the most recently updated with an external id, else of all",
            "track",
            "email_finds_the_latest_user_with_an_id_before_all_others email_finds_the_latest_user_where_none_has_an_id",
        ),
        Rule("E-mail wins over phone", "track cdi", "email_wins_over_phone_which_is_then_a_field"),
        Rule(
            "A user made by one object is there for the next of the same request",
            GUESS,
            "user_made_by_one_object_is_found_by_the_next_of_the_same_request",
        ),
        Rule(
            "`push_token_import`: known tokens are ignored, others make an anonymous user",
            "attr",
            "unknown_push_token_makes_an_anonymous_user_and_a_known_one_is_ignored",
        ),
    ),
    "/users/track: attributes": (
        Rule(
            "Standard fields take what their page says; what does not fit is not set, in silence",
            "attr clients",
            "standard_field_is_kept_if_it_fits_and_else_dropped_in_silence",
        ),
        Rule("A country that cannot be mapped becomes null", "attr", "unmappable_country_becomes_null"),
        Rule("Names of standard fields are case sensitive", "attr", "names_of_standard_fields_are_case_sensitive"),
        Rule("null removes", "attr", "null_removes_standard_fields_and_custom_attributes"),
        Rule(
            "`inc`; arrays with unique elements, `add`, `remove`; arrays of objects, `$add`, `$remove`, `$update` in "
            "this order",
            "attr types aoo",
            "custom_attribute_becomes",
        ),
        Rule(
            "An object replaces the stored one; with `_merge_objects` it is merged at all depths",
            "nca cdi",
            "merge_objects_merges_at_all_depths",
        ),
        Rule(
            "A bad value drops the update of its attribute alone, after a success: text over 255, 100 KB, null or a "
            "bad `$time` inside, bad keys, operators that do not fit",
            "track sync types nca aoo attr",
            "bad_value_drops_the_update_of_its_attribute_alone nested_time_stays_within_the_year_3000",
        ),
        Rule("A name has 1 to 255 characters", "websdk", "attribute_with_a_bad_name_is_dropped"),
        Rule("An array keeps its latest 500 elements", "types", "array_of_more_than_500_loses_its_oldest"),
        Rule("An array of objects may be longer", "aoo", "array_of_objects_may_be_longer_than_500"),
        Rule(
            "The first seen type of an attribute holds, for all users; a value of another is converted, with a line "
            "in the log of silent drops (Braze says so of types set in the dashboard)",
            "types-faq guess",
            "value_is_converted_to_the_first_seen_type_with_a_warning "
            "type_of_an_attribute_holds_for_all_users_and_outlives_its_values type_drift_can_be_let_through",
        ),
        Rule("... and dropped if it cannot be", "types-faq cdi", "first_seen_type_of_an_attribute_wins"),
        Rule("Date-times in seven formats, without a zone UTC", "attr", "moment_reads"),
        Rule(
            "A subscription change goes to all users with the same e-mail",
            "track",
            "subscription_change_spreads_over_a_shared_email",
        ),
        Rule("A bad entry of `subscription_groups` is dropped", GUESS, "bad_subscription_group_is_dropped_alone"),
        Rule(
            "Each attribute written counts a data point, by the rules of legacy billing",
            "dp guess",
            "attributes_and_data_points_are_counted counts_name_everything",
        ),
    ),
    "/users/track: events and purchases": (
        Rule("Equal events are separate events", "track", "equal_events_are_separate_events"),
        Rule("A purchase of quantity n counts as n", "purch", "purchase_of_quantity_three_counts_as_three"),
        Rule("A time in the future becomes now", "event", "time_in_the_future_becomes_now"),
        Rule(
            "Property names of 1 to 255 characters without a leading `$`, texts up to 255; what breaks this is dropped",
            "event cevent guess",
            "bad_property_is_dropped_alone",
        ),
        Rule("At most 256 properties, others are ignored", "event cevent", "more_than_256_properties_are_ignored"),
        Rule(
            "Order inside a request: attributes, events, purchases",
            "limits",
            "attributes_come_before_events_and_purchases",
        ),
    ),
    "Aliases": (
        Rule(
            "With a known external id the alias is attached, with an unknown one nothing happens, without one an "
            "alias-only user is made",
            "alias",
            "alias_is_attached_to_a_known_user_and_made_alone_without_id",
        ),
        Rule(
            "(name, label) is unique: a second user does not get it",
            "life",
            "alias_that_is_taken_changes_nothing",
        ),
        Rule("One name per label, any number of labels", "alias-obj", "user_has_one_alias_for_each_of_many_labels"),
        Rule("A malformed entry is refused alone", GUESS, "bad_alias_is_refused_alone"),
        Rule(
            "alias/update renames known pairs, others do nothing; its answer",
            "alias-upd guess",
            "alias_update_renames_known_pairs_only",
        ),
        Rule(
            "50 entries at most, here and in identify, merge, delete, rename, remove, subscriptions, exports",
            "alias errors merge",
            "fifty_are_taken_and_fifty_one_refused",
        ),
        Rule(
            "Missing, empty or malformed arrays refuse the request; texts",
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
            "... and moves to a known user what only the anonymous one has; that one disappears",
            "identify",
            "identify_moves_what_only_the_anonymous_user_has",
        ),
        Rule(
            "... unless both have an alias of the same label",
            "identify",
            "identify_does_not_combine_users_with_an_alias_of_the_same_label",
        ),
        Rule(
            "... and ends quietly for users who are identified already, or unknown",
            "errors guess",
            "identify_leaves_identified_and_unknown_users_alone",
        ),
        Rule(
            "E-mails and phones by `prioritization`; ambiguous ones do nothing",
            "identify",
            "identify_by_email_follows_the_prioritization",
        ),
        Rule(
            "Entries without external id, or with priorities that clash, are refused at a 201",
            "clients",
            "identify_refuses_entries_at_a_201",
        ),
        Rule(
            "merge: 202; the kept user takes what it lacks, events and purchases add up",
            "merge merging",
            "merge_takes_over_what_is_missing_and_adds_up",
        ),
        Rule(
            "... the earlier first session and the later last one",
            "merge",
            "merge_keeps_the_earlier_first_and_the_later_last_session",
        ),
        Rule("... and does nothing for unknown or same users", GUESS, "merge_of_unknown_or_same_users_does_nothing"),
        Rule("delete: `deleted` counts ids, not users", "rec21", "delete_counts_ids_and_not_users"),
        Rule(
            "A deleted user is gone for good: the same id is then another user",
            "delete",
            "deleted_user_comes_back_empty_and_under_a_new_braze_id",
        ),
        Rule("One kind of identifier per request, of five", "delete", "delete_takes_every_kind_of_identifier"),
        Rule(
            "An e-mail that stays ambiguous deletes nobody",
            "delete",
            "delete_by_an_email_that_stays_ambiguous_deletes_nobody",
        ),
        Rule(
            "rename: the new id is unused and another, the old one stays valid until it is removed; errors by index",
            "rename remove",
            "renamed_id_stays_valid_until_it_is_removed",
        ),
        Rule("A deprecated id deletes its user too", "rename", "deprecated_id_deletes_its_user_too"),
    ),
    "Subscription groups": (
        Rule(
            "v2 sets several groups, by external ids, e-mails or phones; all who share an e-mail or phone change",
            "sub2",
            "v2_sets_a_group_for",
        ),
        Rule("v1 sets one, ids as text or array", "sub1", "v1_sets_a_group_for"),
        Rule("The latest state holds", "sub1", "latest_state_of_a_group_holds"),
        Rule(
            "E-mail and phone together are an error; other mistakes refuse the request too; texts",
            "sub1 guess",
            "bad_subscription_change_is_refused_with_all_others",
        ),
        Rule(
            "status/get: `Subscribed`, `Unsubscribed`, `Unknown`, by external id, e-mail or phone; ids go first",
            "subget guess",
            "subscription_state_is_read_back_capitalised",
        ),
        Rule(
            "user/status: all groups of users; who share an e-mail are told apart; `limit` and `offset`",
            "subuser clients",
            "groups_of_users_are_read_back_and_users_with_one_email_are_told_apart user_without_a_state_has_no_groups",
        ),
        Rule("Bad queries are refused; texts", "subget guess", "bad_subscription_query_is_refused"),
    ),
    "/users/export/ids": (
        Rule(
            "201; empty fields are absent; events and purchases of 90 days as name, first, last, count; unknown ids "
            "in `invalid_user_ids`",
            "export rec21",
            "export_gives_the_fields_that_were_asked_for_and_are_set",
        ),
        Rule(
            "Selected by ids, aliases, and one of device, e-mail and phone",
            "export",
            "export_selects_by export_names_each_user_once_and_unknown_aliases",
        ),
        Rule("Push tokens", "export clients", "export_shows_push_tokens"),
        Rule(
            "`fields_to_export` is required; by contracts before August 2024 (`export_needs_fields=False`) it is not",
            "export export-old",
            "export_without_fields_has_all_of_them_by_an_older_contract",
        ),
    ),
    "Catalogs": (
        Rule(
            "Made (201), listed (200), deleted (200); answers as printed",
            "cat-create cat-list cat-delete",
            "catalog_is_made_listed_and_deleted catalog_counts_its_items_and_is_updated_with_them "
            "items_of_a_deleted_catalog_do_not_come_back",
        ),
        Rule("Names, description, fields and their types, each with its error", "cat-create", "bad_catalog_is_refused"),
        Rule("An unknown catalog is a 404 `catalog-not-found`", "cat-delete", "unknown_catalog_is_a_404_with_a_reason"),
        Rule(
            "Fields are added (202), up to 50 at once and 500 in all",
            "cat-fields",
            "fields_are_added_and_deleted_with_their_values bad_fields_are_refused catalog_has_at_most_500_fields",
        ),
        Rule(
            "... and deleted (202), but for `id`",
            "cat-field-delete guess",
            "id_and_unknown_fields_are_not_deleted",
        ),
    ),
    "Catalog items": (
        Rule(
            "One: POST 201, PATCH 200, PUT 200, DELETE 202, GET 200",
            "cat-post cat-patch cat-put cat-delete-item cat-get",
            "item_is_made_read_changed_replaced_and_deleted",
        ),
        Rule("PUT makes an unknown item", "cat-put", "put_makes_an_unknown_item"),
        Rule("POST of a known one is `item-already-exists`", "cat-post", "known_item_is_not_made_again"),
        Rule(
            "An unknown one is `item-not-found`: 404, of a DELETE 400",
            "cat-get cat-delete-item",
            "unknown_item_is_told",
        ),
        Rule("One item without its id, known fields", "cat-post cat-patch cat-put", "bad_item_is_refused"),
        Rule(
            "Values in the type of their field, converted if they can be; what converts into what",
            "cat-items types-live catalog guess",
            "value_is_kept_in_the_type_of_its_field geolocation_is_longitude_and_latitude",
        ),
        Rule(
            "... else an error: type, 5,000 characters, keys with `.` or `$`, 50 levels, 100 strings in an array",
            "cat-items types-live",
            "value_that_does_not_fit_its_field_is_refused object_of_50_levels_is_kept array_does_not_grow_beyond_100",
        ),
        Rule("`$add` and `$remove` on arrays, of PATCH alone", "cat-patch", "bad_change_of_an_array_is_refused"),
        Rule(
            "Many: POST, PATCH, PUT, DELETE, all 202",
            "cat-items cat-patch cat-put cat-delete-items",
            "items_are_made_changed_replaced_and_deleted catalog_is_a_table_of_items_whatever_the_order_of_calls",
        ),
        Rule(
            "What cannot be done with some of many is left out, in silence",
            GUESS,
            "what_cannot_be_done_with_many_items_is_dropped_in_silence",
        ),
        Rule(
            "50 at most; ids: there, texts, 250 letters, digits, `-`, `_`, unique",
            "cat-items",
            "bad_items_are_refused_with_all_others fifty_items_are_taken "
            "items_with_unknown_fields_are_named_and_all_refused",
        ),
        Rule(
            "Lists have 50 a page, a `Link` header, and a cursor",
            "cat-list-items",
            "items_come_in_pages_of_50_with_links fifty_items_are_one_page_without_links bad_cursor_is_refused",
        ),
    ),
}
