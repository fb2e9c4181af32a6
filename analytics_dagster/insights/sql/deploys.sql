-- Every deploy: whose it is, what it deployed, and when.
SELECT
    id,
    project_id,
    environment,
    revision,
    status,
    user_id,
    local_username,
    start_time,
    finish_time
FROM deploys
WHERE environment IS NOT NULL
