"""onnxruntime sessions whose threads sleep between two calls, so that torch has the cores meanwhile.

By default they go on spinning for some 30 ms after every call, and whatever runs next has that many cores fewer: on two
cores a completion takes twice the time then.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# TensorRT's sessions fall back to CUDA's provider, and both number GPUs as torch does.
_ON_GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
# Within a call they spin as ever: that is where it pays.
_KEY = "session.force_spinning_stop"


def session_gpu(session: Any) -> int | None:
    """The number of the GPU that a session of onnxruntime runs on; None on the CPU.

    Args:
        session: An `InferenceSession`, or what has its `get_providers`.
    """
    first = next(iter(session.get_providers()), "")
    if first not in _ON_GPU:
        return None
    options = session.get_provider_options() if hasattr(session, "get_provider_options") else {}
    return int(options.get(first, {}).get("device_id", 0))


def session_device(session: Any) -> str:
    """Where a session of onnxruntime runs, as torch calls it: `cpu`, `cuda` (the first GPU) or `cuda:N`."""
    number = session_gpu(session)
    return "cpu" if number is None else f"cuda:{number}" if number else "cuda"


def session_providers(session: Any) -> list[Any]:
    """The providers of a session, on the same GPU, as another session takes them."""
    number = session_gpu(session)
    return [(name, {"device_id": number}) if name in _ON_GPU else name for name in session.get_providers()]


def session_options(options: Any = None) -> Any:
    """Options of a session that spins only while it runs.

    Args:
        options: An `onnxruntime.SessionOptions` to set it in; new ones when None.

    Returns:
        The options.

    Example:
        >>> from maskfix.embed import session_options
        >>> session_options().get_session_config_entry("session.force_spinning_stop")
        '1'
    """
    import onnxruntime

    options = onnxruntime.SessionOptions() if options is None else options
    options.add_session_config_entry(_KEY, "1")
    return options


def spins_on(session: Any) -> bool:
    """Whether a session of onnxruntime goes on spinning after a call: it has threads on the CPU and may."""
    if session.get_providers() != ["CPUExecutionProvider"]:
        return False
    options = session.get_session_options()
    if options.intra_op_num_threads == 1:
        return False
    for key, quiet in ((_KEY, "1"), ("session.intra_op.allow_spinning", "0")):
        try:
            if options.get_session_config_entry(key) == quiet:
                return False
        except RuntimeError:  # it was never set
            continue
    return True


def reopen_sessions(models: Iterable[Any]) -> int:
    """Open the sessions of insightface's models again, so that they spin only while they run.

    They are read from the same files with the options that they have (and log errors only), one after the other, and
    what they give is the same to the bit. A session stays as it is if it runs elsewhere than on the CPU, spins on no
    more, is none that insightface opened, or its file is not there any more; with a warning, if the file cannot be read
    now.

    Args:
        models: Models of insightface, each with a `session`; others are passed over.

    Returns:
        How many were opened again.
    """
    count = 0
    for model in models:
        session: Any = getattr(model, "session", None)
        path = getattr(session, "model_path", None)
        if not isinstance(path, str) or not Path(path).is_file() or not spins_on(session):
            continue
        options = session_options(session.get_session_options())
        # Errors only: what onnxruntime dislikes about the file, it said when the file was opened first.
        options.log_severity_level = max(options.log_severity_level, 3)
        try:
            model.session = type(session)(path, sess_options=options, providers=session.get_providers())
        except Exception as error:  # onnxruntime's have no common base; the application runs on as before
            warnings.warn(f"{path}: cannot be opened again; its threads spin on ({error})", stacklevel=2)
        else:
            count += 1
    return count
