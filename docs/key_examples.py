"""One example for each key of syncs.yml: docs/reference.md shows them, and a test loads each.

A key that some modes or other keys exclude has what it needs in `BESIDE`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from reverse_etl.project.spec import Consent, Dbt, File, Guards, Incremental, Ledger, Predecessor, Source, Sync
from reverse_etl.project.spec_alerts import Email, Heartbeat, Slack, Webhook
from reverse_etl.project.spec_collect import Collect, CollectSource, CollectTable
from reverse_etl.project.spec_targets import BrazeConfig, DuckDB, Postgres, Spark, StatePlace, Target
from reverse_etl.project.spec_tests import (
    AcceptedValues,
    DataTest,
    Expect,
    ExpectedInvalid,
    Input,
    Macros,
    Overrides,
    UnitTest,
)

_ALERT = {
    "name": "name: crm_team",
    "targets": "targets: [prod]",
    "when": "when: [failed, blocked, recovered]",
    "after": "after: 2",
}
EXAMPLES: Mapping[type[BaseModel], Mapping[str, str]] = {
    File: {
        "version": "version: 1",
        "default_target": "default_target: sandbox",
        "targets": "targets: {sandbox: {warehouse: {type: duckdb}, destination: {type: braze, endpoint: sandbox}}}",
        "vars": "vars: {country: KR}",
        "dbt": "dbt: {project_dir: ../shop}",
        "defaults": "defaults: {timezone: Asia/Seoul, tags: [crm]}",
        "sources": "sources: {app: {schema: raw}}",
        "collect": "collect: {sources: {app: {keys: [\"{{ env_var('POSTBACK_KEY') }}\"], tables: {opt_outs: {}}}}}",
        "syncs": "syncs: [{name: tiers, model: tiers, mode: users_track, track_record_type: attributes}]",
        "alerts": "alerts: [{type: slack, url: \"{{ env_var('SLACK_URL') }}\"}]",
        "heartbeat": "heartbeat: {url: \"{{ env_var('HEARTBEAT_URL') }}\"}",
        "unit_tests": "unit_tests: [{name: nobody, sync: tiers, given: [], expect: {records: []}}]",
    },
    Target: {
        "warehouse": "warehouse: {type: duckdb, path: warehouse.duckdb}",
        "destination": "destination: {type: braze, endpoint: sandbox}",
        "state": 'state: {path: "s3://bucket/retl"}',
        "renamed_from": "renamed_from: production",
    },
    Source: {"database": "database: landing", "schema": "schema: raw"},
    Sync: {
        "name": "name: newsletter",
        "renamed_from": "renamed_from: weekly_mail",
        "description": "description: who gets the newsletter",
        "owner": "owner: crm-team",
        "columns": "columns: [{name: tier, description: level of the loyalty program, show_values: true}]",
        "model": "model: newsletter",
        "mode": "mode: users_track",
        "track_record_type": "track_record_type: attributes",
        "catalog": "catalog: products",
        "primary_key": "primary_key: [external_id, order_id]",
        "pre_formatted_fields": "pre_formatted_fields: [preferences]",
        "exclude_columns": "exclude_columns: order_id",
        "shares": "shares: [tier]",
        "skip_on_invalid_records": "skip_on_invalid_records: true",
        "strict": "strict: true",
        "send": "send: all_columns",
        "nulls": "nulls: omit",
        "on_removed": "on_removed: clear",
        "keep_removed": "keep_removed: 30 days",
        "on_in_doubt": "on_in_doubt: resend",
        "incremental": "incremental: {cursor: updated_at, lookback: 1 hour}",
        "allow_destructive": "allow_destructive: true",
        "quarantine": "quarantine: 24 hours",
        "suppresses": "suppresses: false",
        "after": "after: [users, {sync: aliases, wait: 5 minutes}]",
        "schedule": 'schedule: "*/15 * * * *"',
        "timezone": "timezone: Asia/Seoul",
        "delay": "delay: 90 minutes",
        "consent": "consent: {evidence: agreed_at}",
        "ledger": "ledger: {keep: 90 days}",
        "tags": "tags: [hourly, crm]",
        "guards": "guards: {max_changes: 10%}",
        "data_tests": "data_tests: [{not_null: email}, {unique: external_id}]",
    },
    Predecessor: {"sync": "sync: aliases", "wait": "wait: 5 minutes"},
    Consent: {"evidence": "evidence: agreed_at"},
    Ledger: {"keep": "keep: 90 days"},
    Guards: {
        "max_removed": "max_removed: 500",
        "max_deletes": "max_deletes: 1%",
        "max_merges": "max_merges: 200",
        "max_changes": "max_changes: 10%",
        "max_requests": "max_requests: 1000",
        "max_data_points": "max_data_points: 50000",
        "empty_model": "empty_model: false",
    },
    Incremental: {"cursor": "cursor: updated_at", "lookback": "lookback: 1 hour", "retention": "retention: 90 days"},
    DuckDB: {
        "type": "type: duckdb",
        "path": "path: warehouse.duckdb",
        "files": 'files: [/data/exports, "s3://bucket/exports"]',
    },
    Postgres: {
        "type": "type: postgres",
        "uri": "uri: \"{{ env_var('WAREHOUSE_URI') }}\"",
        "statement_timeout_s": "statement_timeout_s: 600",
    },
    Spark: {
        "type": "type: spark",
        "remote": "remote: sc://spark.example.com:15002",
        "token": "token: \"{{ env_var('WAREHOUSE_TOKEN') }}\"",
        "diff": "diff: engine",
        "state_schema": "state_schema: main.retl",
    },
    BrazeConfig: {
        "type": "type: braze",
        "endpoint": "endpoint: https://rest.iad-01.braze.com",
        "api_key": "api_key: \"{{ env_var('BRAZE_API_KEY') }}\"",
        "max_objects_per_request": "max_objects_per_request: 50",
        "rate_limits": "rate_limits: {users_track: {requests: 1000, per_seconds: 3}}",
        "keep_free": "keep_free: 20%",
        "timeout_s": "timeout_s: 60",
    },
    Dbt: {
        "project_dir": "project_dir: ../shop",
        "target_path": "target_path: target-prod",
        "owner": "owner: {name: CRM team, email: crm@example.com}",
    },
    StatePlace: {"path": 'path: "s3://bucket/retl"'},
    Slack: {**_ALERT, "type": "type: slack", "url": "url: \"{{ env_var('SLACK_URL') }}\""},
    Webhook: {
        **_ALERT,
        "type": "type: webhook",
        "url": "url: \"{{ env_var('ALERT_URL') }}\"",
        "headers": "headers: {Authorization: \"Bearer {{ env_var('ALERT_TOKEN') }}\"}",
    },
    Email: {
        **_ALERT,
        "type": "type: email",
        "host": "host: smtp.example.com",
        "port": "port: 465",
        "tls": "tls: implicit",
        "username": "username: retl",
        "password": "password: \"{{ env_var('SMTP_PASSWORD') }}\"",
        "from": "from: retl@example.com",
        "to": "to: [crm-team@example.com]",
    },
    Heartbeat: {"url": "url: \"{{ env_var('HEARTBEAT_URL') }}\"", "targets": "targets: [prod]"},
    Collect: {
        "path": "path: received",
        "keep": "keep: 90 days",
        "sources": "sources: {postback: {keys: [\"{{ env_var('POSTBACK_KEY') }}\"], tables: {opt_outs: {}}}}",
    },
    CollectSource: {
        "keys": "keys: [\"{{ env_var('POSTBACK_KEY') }}\", \"{{ env_var('NEXT_POSTBACK_KEY') }}\"]",
        "key_in_url": "key_in_url: true",
        "rate_limit": "rate_limit: 50",
        "tables": "tables: {opt_outs: {columns: [external_id, email]}}",
    },
    UnitTest: {
        "name": "name: gold_members_get_their_tier",
        "description": "description: who has bought for more than a million",
        "sync": "sync: tiers",
        "given": "given: [{input: ref('customers'), rows: [{customer_id: c-1, tier: gold}]}]",
        "overrides": "overrides: {vars: {currency: KRW}}",
        "expect": "expect: {records: [{external_id: c-1, tier: gold}]}",
    },
    Input: {
        "input": "input: source('app', 'orders')",
        "rows": "rows: [{customer_id: c-1, price: 10.5}]",
        "format": "format: csv",
        "fixture": "fixture: orders",
    },
    Overrides: {
        "vars": "vars: {currency: KRW}",
        "env_vars": "env_vars: {REGION: eu}",
        "macros": 'macros: {scheduled_time: "2026-11-21 00:00:00"}',
    },
    Macros: {
        "is_incremental": "is_incremental: true",
        "cursor": 'cursor: "2026-11-20 08:00:00"',
        "run_started_at": 'run_started_at: "2026-11-21 00:05:00"',
        "scheduled_time": 'scheduled_time: "2026-11-21 00:00:00"',
    },
    Expect: {
        "records": "records: [{external_id: c-1, tier: gold}]",
        "invalid": "invalid: [{key: c-2, column: email}]",
    },
    ExpectedInvalid: {"key": "key: c-2", "column": "column: email", "reason": "reason: is not an email address"},
    DataTest: {
        "not_null": "not_null: [email, country]",
        "unique": "unique: email",
        "accepted_values": "accepted_values: {column: tier, values: [basic, silver, gold]}",
    },
    AcceptedValues: {
        "column": "column: [tier]",
        "where": "where: country = 'KR'",
        "severity": "severity: warn",
        "error_if": 'error_if: "> 10"',
        "warn_if": 'warn_if: "> 0"',
        "values": "values: [basic, silver, gold]",
    },
    CollectTable: {"columns": "columns: {external_id: user.external_user_id}", "keep": "keep: forever"},
}

_DELETES = {"mode": "users_delete", "track_record_type": None, "allow_destructive": True}
_EVENTS = {"track_record_type": "events"}
# What an example needs besides what every example has: `USUAL`.
BESIDE: Mapping[type[BaseModel], Mapping[str, Mapping[str, Any]]] = {
    Sync: {
        "catalog": {"mode": "catalog_items", "track_record_type": None},
        "quarantine": _DELETES,
        "suppresses": _DELETES,
        "on_in_doubt": _EVENTS,
        "timezone": {"schedule": "@daily"},
        "delay": {"schedule": "@daily"},
    },
    Spark: {
        "diff": {"state_schema": "main.retl"},
        "state_schema": {"diff": "engine"},
        "token": {"remote": "sc://spark.example.com:443"},
    },
    Email: {
        "username": {"password": "{{ env_var('SMTP_PASSWORD') }}"},
        "password": {"username": "retl"},
    },
    Incremental: {"retention": {"cursor": "seen_at"}},
    Input: {"format": {"rows": "customer_id\nc-1\n"}, "fixture": {"format": "csv", "rows": None}},
    Macros: {"is_incremental": {"cursor": 7}, "cursor": {"is_incremental": True}},
}
# What an example of a part has besides, so that the part is whole.
USUAL: Mapping[type[BaseModel], Mapping[str, Any]] = {
    Target: {
        "warehouse": {"type": "duckdb", "path": "warehouse.duckdb"},
        "destination": {"type": "braze", "endpoint": "sandbox"},
    },
    Source: {},
    Sync: {"name": "tiers", "model": "tiers", "mode": "users_track", "track_record_type": "attributes"},
    Predecessor: {"sync": "aliases"},
    Incremental: {"cursor": "updated_at"},
    DuckDB: {"type": "duckdb"},
    Postgres: {"type": "postgres"},
    Spark: {"type": "spark", "remote": "sc://localhost:15002"},
    BrazeConfig: {
        "type": "braze",
        "endpoint": "https://rest.iad-01.braze.com",
        "api_key": "{{ env_var('BRAZE_API_KEY') }}",
    },
    Dbt: {"project_dir": "../shop"},
    UnitTest: {"name": "one", "sync": "tiers", "expect": {"records": []}},
    Input: {"input": "ref('customers')", "rows": []},
    ExpectedInvalid: {"key": "c-2"},
    AcceptedValues: {"column": "tier", "values": ["gold"]},
    Slack: {"type": "slack", "url": "{{ env_var('SLACK_URL') }}"},
    Webhook: {"type": "webhook", "url": "{{ env_var('ALERT_URL') }}"},
    Email: {"type": "email", "host": "smtp.example.com", "from": "retl@example.com", "to": ["crm@example.com"]},
    Heartbeat: {"url": "{{ env_var('HEARTBEAT_URL') }}"},
    Collect: {"sources": {"postback": {"keys": ["{{ env_var('POSTBACK_KEY') }}"], "tables": {"opt_outs": {}}}}},
    CollectSource: {"keys": ["{{ env_var('POSTBACK_KEY') }}"], "tables": {"opt_outs": {}}},
}
