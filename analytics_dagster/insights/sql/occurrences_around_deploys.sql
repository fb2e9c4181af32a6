-- Occurrences around the finish of deploys, in spells of ten minutes: -12 is the first of the two hours before it, 0 the
-- first after it. The occurrences of an item that was first seen since the deploy began are counted by themselves.
--
-- An hour of occurrences can only belong to deploys that finished within the hours beside it. So the tables are joined
-- by the hour, which every warehouse does by hashing, and not by a range of times.
WITH finished AS (
    SELECT
        id,
        project_id,
        lower(environment) AS environment,
        start_time,
        finish_time,
        CAST(floor(extract(epoch FROM finish_time) / 3600) AS bigint) AS finish_hour
    FROM deploys
    WHERE finish_time >= :finished_since
),

hours_around AS (
    SELECT
        finished.*,
        finished.finish_hour + around.number AS hour_number
    FROM finished
    CROSS JOIN (VALUES (-2), (-1), (0), (1)) AS around (number)
)

SELECT
    hours_around.id AS deploy_id,
    CAST(
        floor((extract(epoch FROM occurrences.timestamp) - extract(epoch FROM hours_around.finish_time)) / 600) AS bigint
    ) AS spell,
    CASE WHEN items.first_occurrence_timestamp >= hours_around.start_time THEN items.id END AS new_item_id,
    count(*) AS occurrences
FROM occurrences
INNER JOIN hours_around
    ON coalesce(occurrences.project_id, :only_project) = hours_around.project_id
    AND lower(occurrences.environment) = hours_around.environment
    AND CAST(floor(extract(epoch FROM occurrences.timestamp) / 3600) AS bigint) = hours_around.hour_number
LEFT JOIN items ON items.id = occurrences.item_id
WHERE
    occurrences.timestamp >= CAST(:finished_since AS timestamptz) - INTERVAL '2 hours'
    AND occurrences.timestamp >= hours_around.finish_time - INTERVAL '2 hours'
    AND occurrences.timestamp < hours_around.finish_time + INTERVAL '1 hour'
GROUP BY 1, 2, 3
