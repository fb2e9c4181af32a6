"""Alerts: one message when a check, a freshness policy or a run fails, one when a check or a policy passes again.

`event_log.py` reads what Dagster recorded, `due.py` decides what to announce, `wording.py` writes it, `outbox.py` keeps
it until `webhook.py` has posted it, and `sensor.py` runs them at each tick.
https://docs.dagster.io/guides/automate/sensors
"""
