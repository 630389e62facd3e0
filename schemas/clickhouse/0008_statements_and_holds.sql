-- Closed periods, and what an account's balance says since plans change and credits can be held.
CREATE TABLE IF NOT EXISTS account_statements
(
    account_id     String                 COMMENT 'Whose period',
    plan           LowCardinality(String) COMMENT 'The plan of the period',
    period_start   DateTime64(3, 'UTC')   COMMENT 'Inclusive',
    period_end     DateTime64(3, 'UTC')   COMMENT 'Exclusive',
    opening        Decimal(18, 6)         COMMENT 'Balance when the period began',
    granted        Decimal(18, 6)         COMMENT 'Credits of grants that took effect in the period',
    used           Decimal(18, 6)         COMMENT 'Credits charged',
    expired        Decimal(18, 6)         COMMENT 'Credits of grants that ended unused',
    voided         Decimal(18, 6)         COMMENT 'Credits taken back',
    closing        Decimal(18, 6)         COMMENT 'opening + granted - used - expired - voided',
    last_entry_seq UInt64                 COMMENT 'The newest ledger entry that it covers',
    accepted_at    DateTime64(3, 'UTC')   COMMENT 'Clock of the partition when it was made',
    partition      UInt32                 COMMENT 'Partition of the input log',
    offset         UInt64                 COMMENT 'Offset of the record that let time pass',
    partition_seq  UInt64                 COMMENT 'Number of that record in its partition'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (account_id, period_start, period_end, partition, offset)
SETTINGS
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'One row for each account and closed period. Written by the sink; read account_statements_v1';

ALTER TABLE account_balances
    ADD COLUMN IF NOT EXISTS next_plan LowCardinality(String) DEFAULT plan COMMENT 'The plan of the next period' AFTER plan,
    ADD COLUMN IF NOT EXISTS status LowCardinality(String) DEFAULT 'open' COMMENT 'open or closed' AFTER next_plan,
    ADD COLUMN IF NOT EXISTS holds Array(Tuple(hold_id String, credits Decimal(18, 6), expires_at DateTime64(3, 'UTC')))
        COMMENT 'Open holds' AFTER available,
    ADD COLUMN IF NOT EXISTS period_used Decimal(18, 6) COMMENT 'Used since period_start' AFTER grants;

CREATE VIEW IF NOT EXISTS account_statements_v1 AS
SELECT
    account_id, plan, period_start, period_end, opening, granted, used, expired, voided, closing, last_entry_seq,
    accepted_at, partition, offset, partition_seq
FROM account_statements FINAL
COMMENT 'One row for each account and closed period';

CREATE OR REPLACE VIEW account_balances_v1 AS
SELECT
    account_id, plan, next_plan, status, posted, held, available, holds, grants, period_used, period_start, period_end,
    entry_seq, accepted_at, partition, offset, partition_seq
FROM account_balances FINAL
COMMENT 'One row for each account: its newest balance';
