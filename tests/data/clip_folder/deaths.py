"""Work for `run_jobs` that its processes can import by name."""

import os

from data.clip_folder.run import Job
from data.clip_folder.store import Store


def one_dies(job: Job, out, config) -> None:
    """Ends its process at once for the job `bad`; any other gets an empty, finished note."""
    if job.key == "bad":
        os._exit(1)
    with Store(out, config).source(job.key, job.stamp) as writer:
        writer.reject(job.key, "nothing to do")
