-- What the whole fleet used, hour by hour, and what each account used, day by day, without going through every record:
-- sums that each part of a table carries beside its rows (projections). They come into being with the block itself and
-- are made anew when parts are merged, so there is nothing that could fall behind or count twice beside the rows. Live
-- as usage_daily is: exact as long as a block is sent again under its own token only. Bill from usage_daily_settled_v1.
ALTER TABLE metered_records
    MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

ALTER TABLE ledger_entries
    MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

ALTER TABLE usage_daily
    MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

ALTER TABLE metered_records ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT
        toStartOfHour(accepted_at), service, channel, outcome, reason,
        count(), sum(images), sum(credits), sum(rated_credits)
    GROUP BY toStartOfHour(accepted_at), service, channel, outcome, reason
);

ALTER TABLE ledger_entries ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT toStartOfHour(booked_at), kind, count(), sum(credits)
    GROUP BY toStartOfHour(booked_at), kind
);

ALTER TABLE usage_daily ADD PROJECTION IF NOT EXISTS by_account
(
    SELECT day, account_id, outcome, sum(records), sum(images), sum(credits), sum(rated_credits)
    GROUP BY day, account_id, outcome
);

-- Parts that were there before get theirs in the background; until then their rows are read, as exactly.
ALTER TABLE metered_records MATERIALIZE PROJECTION hourly;

ALTER TABLE ledger_entries MATERIALIZE PROJECTION hourly;

ALTER TABLE usage_daily MATERIALIZE PROJECTION by_account;

CREATE VIEW IF NOT EXISTS usage_hourly_v1 AS
SELECT
    toStartOfHour(accepted_at) AS hour, service, channel, outcome, reason,
    count() AS records,
    sum(metered_records.images) AS images,
    sum(metered_records.credits) AS credits,
    sum(metered_records.rated_credits) AS rated_credits
FROM metered_records
GROUP BY hour, service, channel, outcome, reason
COMMENT 'Usage of all accounts by hour of acceptance (UTC), service, channel, outcome and reason: seconds fresh, for dashboards';

CREATE VIEW IF NOT EXISTS ledger_hourly_v1 AS
SELECT
    toStartOfHour(booked_at) AS hour, kind,
    count() AS entries,
    sum(ledger_entries.credits) AS credits
FROM ledger_entries
GROUP BY hour, kind
COMMENT 'Changes of credits of all accounts by hour of booking (UTC) and kind: seconds fresh, for dashboards';

CREATE VIEW IF NOT EXISTS usage_account_daily_v1 AS
SELECT
    day, account_id, outcome,
    sum(usage_daily.records) AS records,
    sum(usage_daily.images) AS images,
    sum(usage_daily.credits) AS credits,
    sum(usage_daily.rated_credits) AS rated_credits
FROM usage_daily
GROUP BY day, account_id, outcome
COMMENT 'Usage by UTC day, account and outcome, services taken together: seconds fresh, for dashboards';
