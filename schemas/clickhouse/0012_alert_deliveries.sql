-- How far each alert has come to each recipient and webhook: the notifier's log.
CREATE TABLE IF NOT EXISTS alert_deliveries
(
    delivery_id     String                           COMMENT 'Of alert and target, the same in every try',
    account_id      String                           COMMENT 'Whose alert',
    alert_id        String                           COMMENT 'As in account_alerts_v1; of a test one of its own',
    kind            LowCardinality(String)           COMMENT 'threshold, limit_reached or test',
    threshold       Nullable(UInt16)                 COMMENT 'Percent; NULL unless the kind is threshold',
    used            Decimal(18, 6)                   COMMENT 'Used in the period then',
    base            Decimal(18, 6)                   COMMENT 'What the percentage is of',
    period_start    DateTime64(3, 'UTC')             COMMENT 'Inclusive',
    period_end      DateTime64(3, 'UTC')             COMMENT 'Exclusive',
    accepted_at     DateTime64(3, 'UTC')             COMMENT 'When the alert was decided',
    channel         LowCardinality(String)           COMMENT 'email or webhook',
    target_id       String                           COMMENT 'The recipient or webhook in the account''s settings',
    target          String                           COMMENT 'A masked address, or the host of the URL',
    status          LowCardinality(String)           COMMENT 'pending, retrying, delivered or dead',
    attempts        UInt32                           COMMENT 'Since it was begun or asked for again',
    redeliveries    UInt32                           COMMENT 'How often somebody asked for it again',
    last_code       Nullable(UInt16)                 COMMENT 'The receiver''s HTTP or SMTP code; NULL: none came',
    last_error      String                           COMMENT 'Why the last try failed',
    next_attempt_at Nullable(DateTime64(3, 'UTC'))   COMMENT 'Of what is retrying',
    updated_at      DateTime64(3, 'UTC')             COMMENT 'Clock of the notifier',
    seq             UInt64                           COMMENT 'Number of this state within the delivery'
)
ENGINE = ReplacingMergeTree(seq)
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (account_id, accepted_at, delivery_id)
SETTINGS
    non_replicated_deduplication_window = 50000,
    replicated_deduplication_window = 50000,
    replicated_deduplication_window_seconds = 604800
COMMENT 'A row for each state of each delivery until merged. Written by the sink; read alert_deliveries_v1';

CREATE VIEW IF NOT EXISTS alert_deliveries_v1 AS
SELECT
    delivery_id, account_id, alert_id, kind, threshold, used, base, period_start, period_end, accepted_at, channel,
    target_id, target, status, attempts, redeliveries, last_code, last_error, next_attempt_at, updated_at, seq
FROM alert_deliveries FINAL
COMMENT 'One row for each alert and recipient or webhook: its newest state';
