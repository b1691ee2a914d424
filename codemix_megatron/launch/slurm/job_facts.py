"""What `scontrol show job` says of a job whose batch script still runs, as answers to questions."""

__all__ = ["was_cancelled", "was_preempted"]


def was_cancelled(details: dict[str, str]) -> bool:
    """Say whether somebody cancelled the job: Slurm ends it, and not for its time limit. A job that is queued again has more restarts."""
    if details.get("JobState") not in ("COMPLETING", "CANCELLED"):
        return False
    return seconds_of(details.get("RunTime", "")) < seconds_of(details.get("TimeLimit", ""))


def was_preempted(details: dict[str, str]) -> bool:
    """Say whether the job was pushed aside since it was started last."""
    preempted = details.get("PreemptTime", "None")
    return preempted != "None" and preempted >= details.get("StartTime", "")


def seconds_of(duration: str) -> float:
    """Return the seconds of DAYS-HH:MM:SS; what is no duration, such as UNLIMITED, never passes."""
    days, _, clock = duration.rpartition("-")
    try:
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    except ValueError:
        return float("inf")
