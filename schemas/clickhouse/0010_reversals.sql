-- Charges that were taken back. Their metered records have the outcome reversed or rerated and credits below zero (or
-- what the correction adds), so every sum over records stays what was charged in the end.
ALTER TABLE account_statements
    ADD COLUMN IF NOT EXISTS reversed Decimal(18, 6) COMMENT 'Credits of charges that were taken back in the period' AFTER voided;

CREATE OR REPLACE VIEW account_statements_v1 AS
SELECT
    account_id, plan, period_start, period_end, opening, granted, used, expired, voided, reversed, overage, overage_price,
    overage_amount, currency, closing, last_entry_seq, accepted_at, partition, offset, partition_seq
FROM account_statements FINAL
COMMENT 'One row for each account and closed period';
