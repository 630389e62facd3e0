-- The newest state of every account. Not partitioned: a month would keep an account's older state apart from its
-- newer one for ever. The highest partition_seq wins, in whatever order the rows come.
CREATE TABLE IF NOT EXISTS account_balances
(
    account_id    String                      COMMENT 'Whose credits',
    plan          LowCardinality(String)      COMMENT 'The plan and its version',
    posted        Decimal(18, 6)              COMMENT 'Sum of all ledger entries',
    held          Decimal(18, 6)              COMMENT 'Set aside by open holds',
    available     Decimal(18, 6)              COMMENT 'What a request can use now: grants in effect, less holds',
    grants        Array(Tuple(
                      grant_id     String,
                      kind         String,
                      priority     Int32,
                      credits      Decimal(18, 6),
                      remaining    Decimal(18, 6),
                      effective_at DateTime64(3, 'UTC'),
                      expires_at   Nullable(DateTime64(3, 'UTC')))) COMMENT 'Live grants in burn order; expires_at is NULL where a grant never expires',
    period_start  DateTime64(3, 'UTC')        COMMENT 'Start of the current period, inclusive',
    period_end    DateTime64(3, 'UTC')        COMMENT 'End of the current period, exclusive',
    entry_seq     UInt64                      COMMENT 'Number of the newest ledger entry of the account',
    accepted_at   DateTime64(3, 'UTC')        COMMENT 'Clock of the partition at this state',
    partition     UInt32                      COMMENT 'Partition of the input log',
    offset        UInt64                      COMMENT 'Offset of the cause in that partition',
    partition_seq UInt64                      COMMENT 'Number of the answered record in its partition: the highest is the newest state'
)
ENGINE = ReplacingMergeTree(partition_seq)
ORDER BY account_id
SETTINGS
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'Newest balances. Written by the sink; read account_balances_v1';
