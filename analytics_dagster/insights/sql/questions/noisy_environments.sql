-- Environments by their errors in the week up to the newest one, and the share of their busiest item.
WITH counted AS (
    SELECT
        project_id,
        lower(environment) AS environment,
        item_id,
        count(*) AS occurrences
    FROM occurrences
    WHERE timestamp > (SELECT max(timestamp) FROM occurrences) - INTERVAL '168 hours'
    GROUP BY 1, 2, 3
)

SELECT
    project_id AS project,
    environment,
    CAST(sum(occurrences) AS bigint) AS occurrences,
    count(item_id) AS items,
    CAST(round(100.0 * max(occurrences) / sum(occurrences)) AS bigint) AS percent_of_busiest_item
FROM counted
GROUP BY 1, 2
ORDER BY occurrences DESC, environment ASC
LIMIT 10
