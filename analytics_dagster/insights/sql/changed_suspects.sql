-- The items whose row in deploy_items must be written or deleted, with their occurrences.
--
-- An item was first seen, or became active again after it was resolved, at a time. The latest deploy in its environment
-- that began before that time is the suspect. A stored row stays where it says the same, unless occurrences may have
-- been loaded since in the week that it counts.
WITH sightings AS (
    SELECT
        id AS item_id,
        project_id,
        lower(environment) AS environment,
        'first seen' AS reason,
        first_occurrence_timestamp AS since
    FROM items
    UNION ALL
    SELECT
        id AS item_id,
        project_id,
        lower(environment) AS environment,
        'active again' AS reason,
        last_activated_timestamp AS since
    FROM items
    WHERE last_resolved_timestamp IS NOT NULL AND last_activated_timestamp > first_occurrence_timestamp
),

numbered_deploys AS (
    SELECT
        id AS deploy_id,
        project_id,
        lower(environment) AS environment,
        start_time,
        row_number() OVER (PARTITION BY project_id, lower(environment) ORDER BY start_time, id) AS number
    FROM deploys
    WHERE environment IS NOT NULL
),

-- Deploys and sightings in one order of time: a running total of deploys numbers the latest one at each sighting.
moments AS (
    SELECT
        project_id,
        environment,
        start_time AS moment,
        1 AS deploys,
        CAST(NULL AS bigint) AS item_id,
        CAST(NULL AS text) AS reason
    FROM numbered_deploys
    UNION ALL
    SELECT
        project_id,
        environment,
        since AS moment,
        0 AS deploys,
        item_id,
        reason
    FROM sightings
),

numbered_sightings AS (
    SELECT
        project_id,
        environment,
        moment AS since,
        item_id,
        reason,
        sum(deploys) OVER (
            PARTITION BY project_id, environment
            ORDER BY moment, deploys DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS number
    FROM moments
),

suspicions AS (
    SELECT
        numbered_deploys.deploy_id,
        numbered_sightings.item_id,
        numbered_sightings.reason,
        numbered_sightings.since,
        numbered_sightings.environment,
        row_number() OVER (
            PARTITION BY numbered_deploys.deploy_id, numbered_sightings.item_id ORDER BY numbered_sightings.since
        ) AS sighting
    FROM numbered_sightings
    INNER JOIN numbered_deploys
        ON numbered_deploys.project_id = numbered_sightings.project_id
        AND numbered_deploys.environment = numbered_sightings.environment
        AND numbered_deploys.number = numbered_sightings.number
    WHERE numbered_sightings.item_id IS NOT NULL
),

suspects AS (
    SELECT
        suspicions.deploy_id,
        suspicions.item_id,
        items.project_id,
        items.environment,
        suspicions.reason,
        suspicions.since,
        items.counter,
        items.title,
        items.level
    FROM suspicions
    INNER JOIN items ON items.id = suspicions.item_id
    WHERE suspicions.sighting = 1
),

candidates AS (
    SELECT
        suspects.*,
        stored.deploy_id AS stored_deploy_id,
        stored.item_id AS stored_item_id,
        stored.since AS stored_since,
        stored.occurrences AS stored_occurrences,
        stored.deploy_id IS NULL
        OR suspects.deploy_id IS NULL
        OR stored.project_id IS DISTINCT FROM suspects.project_id
        OR stored.environment IS DISTINCT FROM suspects.environment
        OR stored.reason IS DISTINCT FROM suspects.reason
        OR stored.since IS DISTINCT FROM suspects.since
        OR stored.counter IS DISTINCT FROM suspects.counter
        OR stored.title IS DISTINCT FROM suspects.title
        OR stored.level IS DISTINCT FROM suspects.level AS differs
    FROM suspects
    FULL JOIN deploy_items AS stored
        ON stored.deploy_id = suspects.deploy_id AND stored.item_id = suspects.item_id
),

changed AS (
    SELECT *
    FROM candidates
    WHERE differs OR since > :counted_anew_since
),

counted AS (
    SELECT
        changed.deploy_id,
        changed.item_id,
        count(*) AS occurrences
    FROM occurrences
    INNER JOIN changed
        ON changed.item_id = occurrences.item_id
        AND lower(changed.environment) = lower(occurrences.environment)
    WHERE
        occurrences.timestamp >= (SELECT min(since) FROM changed)
        AND occurrences.timestamp >= changed.since
        AND occurrences.timestamp < changed.since + INTERVAL '168 hours'
    GROUP BY 1, 2
)

SELECT
    changed.stored_deploy_id,
    changed.stored_item_id,
    changed.stored_since,
    changed.deploy_id,
    changed.item_id,
    changed.project_id,
    changed.environment,
    changed.reason,
    changed.since,
    changed.counter,
    changed.title,
    changed.level,
    coalesce(counted.occurrences, 0) AS occurrences
FROM changed
LEFT JOIN counted ON counted.deploy_id = changed.deploy_id AND counted.item_id = changed.item_id
WHERE changed.differs OR coalesce(counted.occurrences, 0) IS DISTINCT FROM changed.stored_occurrences
