"""Worker processes of the dataset builders."""

import concurrent.futures
import multiprocessing
import signal


def worker_pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Create a pool of spawned processes with one thread each that ignore Ctrl-C."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_use_one_core)


def _use_one_core() -> None:
    """BLAS threads wait by spinning; a few processes with several each can be a hundred times slower than with one."""
    import cv2
    import scipy.linalg  # noqa: F401 - loads its BLAS, which the limit then covers
    import threadpoolctl

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
