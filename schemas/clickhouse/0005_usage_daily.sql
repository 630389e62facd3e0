-- The live rollup: seconds fresh, added up block by block. Exact as long as a block is sent again under its own
-- token only, which the sink's plans see to; usage_daily_settled is the figure to bill from.
CREATE TABLE IF NOT EXISTS usage_daily
(
    day           Date                        COMMENT 'UTC day of accepted_at',
    account_id    String                      COMMENT 'Whose credits',
    service       LowCardinality(String)      COMMENT 'The image service',
    channel       LowCardinality(String)      COMMENT 'web or api',
    outcome       LowCardinality(String)      COMMENT 'metered, denied or duplicate',
    records       SimpleAggregateFunction(sum, UInt64)         COMMENT 'Metered records',
    images        SimpleAggregateFunction(sum, UInt64)         COMMENT 'Images processed',
    credits       SimpleAggregateFunction(sum, Decimal(38, 6)) COMMENT 'Credits charged',
    rated_credits SimpleAggregateFunction(sum, Decimal(38, 6)) COMMENT 'Credits by the price book, charged or not'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, service, channel, outcome, account_id)
SETTINGS
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'Live daily rollup. Read usage_daily_v1';

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_daily_mv TO usage_daily AS
SELECT
    toDate(accepted_at) AS day,
    account_id,
    service,
    channel,
    outcome,
    count() AS records,
    sum(images) AS images,
    sum(credits) AS credits,
    sum(rated_credits) AS rated_credits
FROM metered_records
GROUP BY day, account_id, service, channel, outcome;
