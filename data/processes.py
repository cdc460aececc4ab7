"""Worker processes of the dataset builders."""

import concurrent.futures
import multiprocessing

from pipelines.processes import end_with_parent


def worker_pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Create a pool of spawned processes with one thread each, which leave signals to this process and end with it,
    however it ends."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """BLAS threads wait by spinning; a few processes with several each can be a hundred times slower than with one."""
    end_with_parent()
    import cv2
    import scipy.linalg  # noqa: F401 - loads its BLAS, which the limit then covers
    import threadpoolctl

    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
