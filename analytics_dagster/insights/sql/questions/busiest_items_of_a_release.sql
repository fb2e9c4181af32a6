-- The latest revision that was deployed to production, by the errors that report it.
WITH release AS (
    SELECT
        project_id,
        environment,
        revision
    FROM deploys
    WHERE lower(environment) = 'production' AND status = 'succeeded'
    ORDER BY finish_time DESC, id DESC
    LIMIT 1
)

SELECT
    substr(release.revision, 1, 12) AS revision,
    items.counter AS item,
    items.level,
    items.title,
    count(*) AS occurrences,
    count(DISTINCT occurrences.person_id) AS people
FROM release
INNER JOIN occurrences
    ON occurrences.project_id = release.project_id
    AND lower(occurrences.environment) = lower(release.environment)
    AND occurrences.code_version = release.revision
INNER JOIN items ON items.id = occurrences.item_id
GROUP BY 1, 2, 3, 4
ORDER BY occurrences DESC, item ASC
LIMIT 10
