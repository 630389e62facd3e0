-- The settled rollup: recomputed from FINAL rows, so it is right even where the live one is not.
-- A refresh computes the days whose live and settled totals differ: nothing on a quiet day, and any day that a
-- late or restarted sink still adds to. 45 days: longer than the log keeps records, so no older day can change.
CREATE TABLE IF NOT EXISTS usage_daily_settled
(
    day           Date                        COMMENT 'UTC day of accepted_at',
    account_id    String                      COMMENT 'Whose credits',
    service       LowCardinality(String)      COMMENT 'The image service',
    channel       LowCardinality(String)      COMMENT 'web or api',
    outcome       LowCardinality(String)      COMMENT 'metered, denied or duplicate',
    records       UInt64                      COMMENT 'Metered records',
    images        UInt64                      COMMENT 'Images processed',
    credits       Decimal(38, 6)              COMMENT 'Credits charged',
    rated_credits Decimal(38, 6)              COMMENT 'Credits by the price book, charged or not',
    computed_at   DateTime64(3, 'UTC')        COMMENT 'When this figure was computed; the newest wins'
)
ENGINE = ReplacingMergeTree(computed_at)
PARTITION BY toYYYYMM(day)
ORDER BY (day, service, channel, outcome, account_id)
COMMENT 'Settled daily rollup. Read usage_daily_settled_v1';

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_daily_settled_mv
REFRESH EVERY 5 MINUTE APPEND TO usage_daily_settled AS
SELECT
    toDate(accepted_at) AS day,
    account_id,
    service,
    channel,
    outcome,
    count() AS records,
    sum(metered_records.images) AS images,
    sum(metered_records.credits) AS credits,
    sum(metered_records.rated_credits) AS rated_credits,
    now64(3, 'UTC') AS computed_at
FROM metered_records FINAL
WHERE toDate(accepted_at) IN
(
    SELECT day
    FROM
    (
        SELECT day, toInt64(records) AS more_records, credits AS more_credits
        FROM usage_daily
        WHERE day >= today() - 45
        UNION ALL
        SELECT day, -toInt64(records), -credits
        FROM usage_daily_settled FINAL
        WHERE day >= today() - 45
    )
    GROUP BY day
    HAVING sum(more_records) != 0 OR sum(more_credits) != 0
)
GROUP BY day, account_id, service, channel, outcome;
