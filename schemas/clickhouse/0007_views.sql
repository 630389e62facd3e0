-- What people and programs query. Names and columns of a *_v1 view only grow; a break is a _v2 beside it.
CREATE VIEW IF NOT EXISTS metered_records_v1 AS
SELECT
    account_id, event_id, source, service, outcome, reason, occurred_at, accepted_at, channel, images, credits,
    rated_credits, price_book, balance_after, partition, offset, partition_seq, entry_seq, first_offset, receipt, attributes
FROM metered_records FINAL
COMMENT 'One row for each answered usage event: metered, denied or duplicate. Columns: see metered_records';

CREATE VIEW IF NOT EXISTS ledger_entries_v1 AS
SELECT
    account_id, entry_seq, kind, credits, balance_after, booked_at, accepted_at, cause_source, cause_id, grants,
    partition, offset, partition_seq, previous_hash, entry_hash
FROM ledger_entries FINAL
COMMENT 'One row for each signed change of an account''s credits; an account''s sum is its posted balance';

CREATE VIEW IF NOT EXISTS account_balances_v1 AS
SELECT
    account_id, plan, posted, held, available, grants, period_start, period_end, entry_seq, accepted_at,
    partition, offset, partition_seq
FROM account_balances FINAL
COMMENT 'One row for each account: its newest balance';

CREATE VIEW IF NOT EXISTS dead_letters_v1 AS
SELECT
    reason, detail, pointer, account_id, event_id, source, type, accepted_at, partition, offset, partition_seq,
    key_base64, payload_base64, headers
FROM dead_letters FINAL
COMMENT 'One row for each record that can never be metered, with its original bytes';

CREATE VIEW IF NOT EXISTS usage_daily_v1 AS
SELECT
    day, account_id, service, channel, outcome,
    sum(usage_daily.records) AS records,
    sum(usage_daily.images) AS images,
    sum(usage_daily.credits) AS credits,
    sum(usage_daily.rated_credits) AS rated_credits
FROM usage_daily
GROUP BY day, account_id, service, channel, outcome
COMMENT 'Usage by UTC day, account, service, channel and outcome: seconds fresh, for dashboards';

CREATE VIEW IF NOT EXISTS usage_daily_settled_v1 AS
SELECT day, account_id, service, channel, outcome, records, images, credits, rated_credits, computed_at
FROM usage_daily_settled FINAL
COMMENT 'The same figures recomputed from the records every five minutes: bill and report from these';
