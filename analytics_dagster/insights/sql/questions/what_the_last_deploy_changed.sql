-- The latest deploy to each environment: its verdict, errors an hour before and after it, and what it is suspected of.
WITH latest AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY project_id, lower(environment) ORDER BY finish_time DESC, id DESC) AS age
    FROM deploy_impact
    WHERE NOT provisional
),

suspects AS (
    SELECT
        deploy_id,
        count(*) AS items,
        CAST(sum(occurrences) AS bigint) AS occurrences
    FROM deploy_items
    GROUP BY 1
)

SELECT
    latest.environment,
    substr(latest.revision, 1, 12) AS revision,
    latest.finish_time AT TIME ZONE 'UTC' AS finished,
    latest.verdict,
    round(CAST(latest.per_minute_before * 60 AS numeric), 0) AS before_an_hour,
    latest.occurrences_after_60 AS after_an_hour,
    round(CAST(latest.ratio AS numeric), 2) AS ratio,
    coalesce(suspects.items, 0) AS suspected_items,
    coalesce(suspects.occurrences, 0) AS their_occurrences
FROM latest
LEFT JOIN suspects ON suspects.deploy_id = latest.id
WHERE latest.age = 1
ORDER BY latest.finish_time DESC, latest.id DESC
LIMIT 10
