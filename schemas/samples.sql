-- Questions that analysts ask, for the views `…_v1`; each is run in the tests and its answer known.
-- Credits are Decimal(18, 6): sums are exact. accepted_at decides prices and periods, occurred_at is the producer's clock.

-- name: the fleet's month by service
SELECT service, sumIf(records, outcome = 'metered') AS events, sum(credits) AS credits
FROM usage_hourly_v1
WHERE hour >= now() - INTERVAL 30 DAY
GROUP BY service
ORDER BY service;

-- name: credits by service and day
SELECT toDate(hour) AS day, service, sum(credits) AS credits, sumIf(records, outcome = 'metered') AS events
FROM usage_hourly_v1
GROUP BY day, service
ORDER BY day, service;

-- name: the largest accounts of a month, from the settled rollup that bills are made from
SELECT account_id, sum(credits) AS credits, sum(images) AS images
FROM usage_daily_settled_v1
WHERE day >= today() - 30
GROUP BY account_id
ORDER BY credits DESC, account_id
LIMIT 20;

-- name: usage that was denied, and what it would have cost
SELECT account_id, reason, count() AS requests, sum(rated_credits) AS would_have_cost
FROM metered_records_v1
WHERE outcome = 'denied'
GROUP BY account_id, reason
ORDER BY would_have_cost DESC;

-- name: how full each account is, and when it runs out at the pace of the last seven days
SELECT
    account_id,
    available,
    held,
    period_used,
    week.credits / 7 AS credits_a_day,
    if(credits_a_day > 0, toUInt32(floor(available / credits_a_day)), NULL) AS days_left
FROM account_balances_v1
LEFT JOIN
(
    SELECT account_id, sum(credits) AS credits
    FROM metered_records_v1
    WHERE accepted_at >= now() - INTERVAL 7 DAY
    GROUP BY account_id
) AS week USING (account_id)
ORDER BY account_id;

-- name: the ledger adds up, entry by entry and with the balances: no row comes back
SELECT account_id, sum(ledger_entries_v1.credits) AS entries, any(account_balances_v1.posted) AS balance
FROM ledger_entries_v1
INNER JOIN account_balances_v1 USING (account_id)
GROUP BY account_id
HAVING entries != balance;

-- name: where credits came from and went
SELECT account_id, kind, count() AS entries, sum(credits) AS credits
FROM ledger_entries_v1
GROUP BY account_id, kind
ORDER BY account_id, kind;

-- name: what went beyond the grants, entered as overage
SELECT account_id, toStartOfMonth(booked_at) AS month, sum(credits) AS overage
FROM ledger_entries_v1
WHERE kind = 'overage'
GROUP BY account_id, month
ORDER BY account_id, month;

-- name: which rule decided the price
SELECT
    service,
    JSONExtractString(arrayJoin(JSONExtractArrayRaw(receipt, 'steps')), 'rule') AS rule,
    count() AS times
FROM metered_records_v1
WHERE receipt != ''
GROUP BY service, rule
ORDER BY service, rule;

-- name: closed periods
SELECT account_id, plan, period_start, period_end, opening, granted, used, expired, overage, closing
FROM account_statements_v1
ORDER BY account_id, period_end;

-- name: alerts in their order
SELECT account_id, kind, threshold, accepted_at
FROM account_alerts_v1
ORDER BY accepted_at, account_id, alert_id;

-- name: what could not be metered, and why
SELECT reason, count() AS records, any(detail) AS example
FROM dead_letters_v1
GROUP BY reason
ORDER BY records DESC, reason;

-- name: resends that were recognised, by the service that sent them
SELECT source, count() AS duplicates
FROM metered_records_v1
WHERE outcome = 'duplicate'
GROUP BY source
ORDER BY duplicates DESC;
