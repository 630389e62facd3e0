-- One row for each usage event that the rules answered: metered, denied or duplicate.
-- A row's identity is where its event stands in the input log (partition, offset); everything before it in the
-- sort key follows from it, so a row that was inserted twice has one key and one monthly partition, and FINAL shows it once.
-- An account is asked about far more often than all of them: marks eight times as dense as usual, and an answer reads a
-- tenth of the rows.
-- The windows remember this many blocks by token: a block that is sent again is dropped, here and in the rollups.
CREATE TABLE IF NOT EXISTS metered_records
(
    account_id    String                      COMMENT 'Whose credits',
    event_id      String                      COMMENT 'The CloudEvent id, unique per account and source',
    source        String                      COMMENT 'The CloudEvent source: the service that sent it',
    service       LowCardinality(String)      COMMENT 'image_generation, background_removal, image_analysis, upscaling, post_processing, transparent_background',
    outcome       LowCardinality(String)      COMMENT 'metered (charged), denied (by policy, 0 credits) or duplicate (of first_offset, 0 credits)',
    reason        LowCardinality(String)      COMMENT 'Why it was not charged; empty when metered',
    occurred_at   DateTime64(3, 'UTC')        COMMENT 'When the service says it happened',
    accepted_at   DateTime64(3, 'UTC')        COMMENT 'When the broker took the event: the clock of all rules and periods',
    channel       LowCardinality(String)      COMMENT 'web or api; never changes a price',
    images        UInt32                      COMMENT 'Images processed',
    credits       Decimal(18, 6)              COMMENT 'What was charged',
    rated_credits Decimal(18, 6)              COMMENT 'What the price book says it costs, charged or not',
    price_book    LowCardinality(String)      COMMENT 'Version of the price book that was in force',
    balance_after Decimal(18, 6)              COMMENT 'Credits of the account after this event',
    partition     UInt32                      COMMENT 'Partition of the input log',
    offset        UInt64                      COMMENT 'Offset in that partition: with it the identity of the row',
    partition_seq UInt64                      COMMENT 'Number of the answered record in its partition',
    entry_seq     UInt64                      COMMENT 'Number of the ledger entry in the account; 0 where none was posted',
    first_offset  UInt64                      COMMENT 'Of a duplicate: the offset of the first event; else the own offset',
    receipt       String CODEC(ZSTD(1))       COMMENT 'Why the charge is what it is, as JSON; empty on duplicates',
    attributes    String CODEC(ZSTD(1))       COMMENT 'Attributes of the event that no rule knows, as JSON',
    INDEX event_id_bloom event_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX offset_minmax offset TYPE minmax GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (account_id, accepted_at, partition, offset)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'Answered usage events. Written by the sink; read metered_records_v1';
