"""Alerts: one message when a check, a freshness policy or a job begins to fail, one when it passes or succeeds again.

`event_log.py` makes the events of `events.py` of what Dagster recorded, with the causes of failed runs by `causes.py`.
`due.py` decides which to announce, and lets `policies.py` make one of the two about an asset that is late. `wording.py`
writes them, `outbox.py` keeps them until `webhook.py` has posted them, and `sensor.py` runs all at each tick.
https://docs.dagster.io/guides/automate/sensors
"""
