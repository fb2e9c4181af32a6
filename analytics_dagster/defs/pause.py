"""Pauses of schedules and sensors while a setting is wrong: they are stopped, and skip if a person starts them.

    schedules = [pause_schedule(schedule, problem) for schedule in build_schedules(settings)]

Each keeps its name, so that it resumes in the state that it had once the setting is right.
https://docs.dagster.io/guides/automate/schedules
"""

import dagster as dg


def pause_schedule(schedule: dg.ScheduleDefinition, problem: str) -> dg.ScheduleDefinition:
    """Return a schedule of the same name that skips every tick with a sentence, which is its description too."""
    return dg.ScheduleDefinition(
        name=schedule.name,
        job_name=schedule.job_name,
        cron_schedule=schedule.cron_schedule,
        description=problem,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        execution_fn=lambda _: dg.SkipReason(problem),
    )


def pause_sensor(sensor: dg.SensorDefinition, problem: str) -> dg.SensorDefinition:
    """Return a sensor of the same name that skips every tick with a sentence, which is its description too.

    A skipped tick leaves the sensor's cursor as it is.
    """
    return dg.SensorDefinition(
        name=sensor.name,
        # A sensor of alerts has no job.
        job_name=sensor.job_name if sensor.targets else None,
        description=problem,
        default_status=dg.DefaultSensorStatus.STOPPED,
        evaluation_fn=lambda _: dg.SkipReason(problem),
    )
