-- Items that became active again after they were resolved, within a week of the newest error, with their suspects.
SELECT
    deploy_items.since AT TIME ZONE 'UTC' AS back_since,
    items.counter AS item,
    items.environment,
    items.title,
    deploy_items.occurrences,
    substr(deploys.revision, 1, 12) AS suspect
FROM deploy_items
INNER JOIN items ON items.id = deploy_items.item_id
INNER JOIN deploys ON deploys.id = deploy_items.deploy_id
WHERE
    deploy_items.reason = 'active again'
    AND deploy_items.since > (SELECT max(timestamp) FROM occurrences) - INTERVAL '168 hours'
ORDER BY back_since DESC, item ASC
LIMIT 10
