-- One row for each signed change of an account's credits. The sum of an account's entries is its posted balance.
-- Marks are dense for the sake of one account's page, as those of metered_records.
CREATE TABLE IF NOT EXISTS ledger_entries
(
    account_id    String                      COMMENT 'Whose credits',
    entry_seq     UInt64                      COMMENT '1, 2, 3, … without a gap in each account: with it the identity of the row',
    kind          LowCardinality(String)      COMMENT 'grant, usage, overage, expiration, void or reversal',
    credits       Decimal(18, 6)              COMMENT 'Signed: above zero adds to the balance, below zero takes from it',
    balance_after Decimal(18, 6)              COMMENT 'Posted balance after this entry',
    booked_at     DateTime64(3, 'UTC')        COMMENT 'When the rule took effect',
    accepted_at   DateTime64(3, 'UTC')        COMMENT 'Clock of the partition when the entry was made',
    cause_source  String                      COMMENT 'Source of the event or command that caused it; empty for an expiration',
    cause_id      String                      COMMENT 'Id of that event or command; of an expiration, the grant',
    grants        Array(Tuple(grant_id String, credits Decimal(18, 6))) COMMENT 'Unsigned shares of the grants; the sign is the entry''s',
    partition     UInt32                      COMMENT 'Partition of the input log',
    offset        UInt64                      COMMENT 'Offset of the cause in that partition',
    partition_seq UInt64                      COMMENT 'Number of the answered record in its partition',
    previous_hash String                      COMMENT 'entry_hash of the entry before it in the account; 32 zeros for the first',
    entry_hash    String                      COMMENT 'BLAKE2b-128 over the entry and previous_hash',
    INDEX cause_id_bloom cause_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX offset_minmax offset TYPE minmax GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (account_id, entry_seq)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'The ledger. Written by the sink; read ledger_entries_v1';
