"""What every worker process of the dataset builders does first."""

import signal


def own_one_core() -> None:
    """The parent alone answers to Ctrl-C, and one process keeps to one core.

    BLAS threads wait for each other by spinning; a few processes with several each can take a hundred times as long
    as with one.
    """
    import cv2
    import scipy.linalg  # noqa: F401 - its BLAS has to be there to be told
    import threadpoolctl

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
