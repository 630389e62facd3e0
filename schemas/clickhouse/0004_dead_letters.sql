-- Records of the input log that can never be metered, whole, with reason and position.
CREATE TABLE IF NOT EXISTS dead_letters
(
    reason         LowCardinality(String)     COMMENT 'Code of the reason; the list is closed',
    detail         String                     COMMENT 'What was expected and what came',
    pointer        String                     COMMENT 'JSON pointer to the attribute at fault; empty when it is the whole',
    account_id     String                     COMMENT 'The key as far as it is an account id, else empty',
    event_id       String                     COMMENT 'The id as far as it could be read, else empty',
    source         String                     COMMENT 'The source as far as it could be read, else empty',
    type           LowCardinality(String)     COMMENT 'The CloudEvent type as far as it could be read, else empty',
    accepted_at    DateTime64(3, 'UTC')       COMMENT 'When the broker took the record',
    partition      UInt32                     COMMENT 'Partition of the input log',
    offset         UInt64                     COMMENT 'Offset in that partition: with it the identity of the row',
    partition_seq  UInt64                     COMMENT 'Number of the answered record in its partition',
    key_base64     String                     COMMENT 'The original key',
    payload_base64 String CODEC(ZSTD(1))      COMMENT 'The original bytes',
    headers        Array(Tuple(name String, value_base64 String)) COMMENT 'The original headers',
    INDEX event_id_bloom event_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (accepted_at, partition, offset)
SETTINGS
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'Dead letters. Written by the sink; read dead_letters_v1';
