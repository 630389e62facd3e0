-- Charges that were taken back. Their metered records have the outcome reversed or rerated and credits below zero (or
-- what the correction adds), so every sum over records stays what was charged in the end.
ALTER TABLE metered_records
    COMMENT COLUMN outcome 'metered (charged), denied (by policy, 0 credits), duplicate (of first_offset, 0 credits), reversed (the charge at first_offset is taken back) or rerated (it is charged anew: the difference)',
    COMMENT COLUMN credits 'What was charged; of a correction the difference that it makes, so sums are what was charged in the end',
    COMMENT COLUMN images 'Images processed; 0 of a correction, which counts none again',
    COMMENT COLUMN first_offset 'Of a duplicate or a correction: the offset of the event that was charged; else the own offset';

ALTER TABLE account_statements
    ADD COLUMN IF NOT EXISTS reversed Decimal(18, 6) COMMENT 'Credits of charges that were taken back in the period' AFTER voided,
    ADD COLUMN IF NOT EXISTS overage_returned Decimal(18, 6) COMMENT 'Overage of closed periods that was taken back' AFTER overage_amount,
    ADD COLUMN IF NOT EXISTS overage_returns Array(Tuple(
            period_end    DateTime64(3, 'UTC'),
            credits       Decimal(18, 6),
            overage_price Nullable(Decimal(18, 6)),
            amount        Decimal(38, 12),
            currency      String)) COMMENT 'The same by the period that billed it, with its price and amount in money'
        AFTER overage_returned;

CREATE OR REPLACE VIEW account_statements_v1 AS
SELECT
    account_id, plan, period_start, period_end, opening, granted, used, expired, voided, reversed, overage, overage_price,
    overage_amount, overage_returned, overage_returns, currency, closing, last_entry_seq, accepted_at, partition, offset, partition_seq
FROM account_statements FINAL
COMMENT 'One row for each account and closed period';
