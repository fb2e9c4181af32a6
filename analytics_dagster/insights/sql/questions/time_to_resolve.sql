-- Items by level and by the week in which they were last resolved, with the median time that it took.
SELECT
    CAST(date_trunc('week', items.last_resolved_timestamp AT TIME ZONE 'UTC') AS date) AS week,
    items.level,
    count(*) AS items,
    round(CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY items_metrics.last_ttr) / 3600.0 AS numeric), 1) AS median_hours,
    round(CAST(max(items_metrics.last_ttr) / 3600.0 AS numeric), 1) AS longest_hours
FROM items_metrics
INNER JOIN items
    ON items.project_id = items_metrics.project_id
    AND items.counter = items_metrics.item_counter
WHERE items.last_resolved_timestamp IS NOT NULL AND items_metrics.last_ttr IS NOT NULL
GROUP BY 1, 2
ORDER BY week DESC, items DESC, items.level ASC
LIMIT 10
