-- What is used beyond the grants, with its price in money, and the alerts that were decided with the debits.
ALTER TABLE account_statements
    ADD COLUMN IF NOT EXISTS overage Decimal(18, 6) COMMENT 'Credits used beyond all grants' AFTER voided,
    ADD COLUMN IF NOT EXISTS overage_price Nullable(Decimal(18, 6)) COMMENT 'Money for one of them' AFTER overage,
    ADD COLUMN IF NOT EXISTS overage_amount Decimal(38, 12) COMMENT 'overage × overage_price, exact' AFTER overage_price,
    ADD COLUMN IF NOT EXISTS currency LowCardinality(String) COMMENT 'Of the money, ISO 4217' AFTER overage_amount;

ALTER TABLE account_balances
    ADD COLUMN IF NOT EXISTS overage_ceiling Nullable(Decimal(18, 6))
        COMMENT 'Most overage in one period; NULL: protection is on' AFTER available,
    ADD COLUMN IF NOT EXISTS overage Decimal(18, 6) COMMENT 'Booked in this period' AFTER overage_ceiling,
    ADD COLUMN IF NOT EXISTS alert_thresholds Array(UInt16) COMMENT 'Percent of the period''s credits' AFTER overage;

CREATE TABLE IF NOT EXISTS account_alerts
(
    alert_id      String                 COMMENT 'The same in every replay',
    account_id    String                 COMMENT 'Whose credits',
    kind          LowCardinality(String) COMMENT 'threshold or limit_reached',
    threshold     Nullable(UInt16)       COMMENT 'Percent; NULL for limit_reached',
    used          Decimal(18, 6)         COMMENT 'Used in the period then',
    base          Decimal(18, 6)         COMMENT 'What the percentage is of',
    period_start  DateTime64(3, 'UTC')   COMMENT 'Inclusive',
    period_end    DateTime64(3, 'UTC')   COMMENT 'Exclusive',
    accepted_at   DateTime64(3, 'UTC')   COMMENT 'Clock of the partition when it was decided',
    partition     UInt32                 COMMENT 'Partition of the input log',
    offset        UInt64                 COMMENT 'Offset of the usage or command that reached it',
    partition_seq UInt64                 COMMENT 'Number of that record in its partition'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (account_id, period_start, alert_id)
SETTINGS
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'One row for each alert. Written by the sink; read account_alerts_v1';

CREATE VIEW IF NOT EXISTS account_alerts_v1 AS
SELECT
    alert_id, account_id, kind, threshold, used, base, period_start, period_end, accepted_at, partition, offset,
    partition_seq
FROM account_alerts FINAL
COMMENT 'One row for each alert that was decided';

CREATE OR REPLACE VIEW account_statements_v1 AS
SELECT
    account_id, plan, period_start, period_end, opening, granted, used, expired, voided, overage, overage_price,
    overage_amount, currency, closing, last_entry_seq, accepted_at, partition, offset, partition_seq
FROM account_statements FINAL
COMMENT 'One row for each account and closed period';

CREATE OR REPLACE VIEW account_balances_v1 AS
SELECT
    account_id, plan, next_plan, status, posted, held, available, overage_ceiling, overage, alert_thresholds, holds, grants,
    period_used, period_start, period_end, entry_seq, accepted_at, partition, offset, partition_seq
FROM account_balances FINAL
COMMENT 'One row for each account: its newest balance';
