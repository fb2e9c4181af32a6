-- Occurrences by project and environment, in ten minutes of the clock, numbered from the epoch.
SELECT
    coalesce(project_id, :only_project) AS project_id,
    lower(environment) AS environment,
    CAST(floor(extract(epoch FROM timestamp) / 600) AS bigint) AS ten_minutes,
    count(*) AS occurrences
FROM occurrences
WHERE timestamp >= :since AND environment IS NOT NULL
GROUP BY 1, 2, 3
