-- Packs that accounts with automatic top-up were to buy. What was paid is a grant `topup:<order>` in the ledger.
CREATE TABLE IF NOT EXISTS topup_orders
(
    order_id      String                 COMMENT 'The provider''s idempotency key, the same in every replay',
    account_id    String                 COMMENT 'Whose order',
    order_number  UInt64                 COMMENT '1, 2, 3, … in each account',
    pack          LowCardinality(String) COMMENT 'The pack of the plan',
    credits       Decimal(18, 6)         COMMENT 'Credits of the pack',
    price         Decimal(18, 6)         COMMENT 'Money for the pack',
    currency      LowCardinality(String) COMMENT 'Of the money, ISO 4217',
    threshold     Decimal(18, 6)         COMMENT 'Below this a pack is bought',
    credits_left  Decimal(18, 6)         COMMENT 'What was left then',
    accepted_at   DateTime64(3, 'UTC')   COMMENT 'Clock of the partition when it was decided',
    partition     UInt32                 COMMENT 'Partition of the input log',
    offset        UInt64                 COMMENT 'Offset of the record after which so little was left',
    partition_seq UInt64                 COMMENT 'Number of that record in its partition'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (account_id, order_number)
SETTINGS
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'One row for each top-up order. Written by the sink; read topup_orders_v1';

CREATE VIEW IF NOT EXISTS topup_orders_v1 AS
SELECT
    order_id, account_id, order_number, pack, credits, price, currency, threshold, credits_left, accepted_at, partition, offset,
    partition_seq
FROM topup_orders FINAL
COMMENT 'One row for each top-up order';

ALTER TABLE account_balances
    ADD COLUMN IF NOT EXISTS auto_topup String COMMENT 'Automatic top-up as JSON; empty: off' AFTER alert_thresholds;

CREATE OR REPLACE VIEW account_balances_v1 AS
SELECT
    account_id, plan, next_plan, status, posted, held, available, overage_ceiling, overage, alert_thresholds, auto_topup,
    holds, grants, period_used, period_start, period_end, entry_seq, accepted_at, partition, offset, partition_seq
FROM account_balances FINAL
COMMENT 'One row for each account: its newest balance';
