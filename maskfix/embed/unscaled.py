"""What an ONNX recogniser has before the last step of its graph, where that step brings the vector to unit length."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import DependencyError
from maskfix.embed.base import unit_rows
from maskfix.embed.sessions import session_options, session_providers

_LAST_STEPS = ("Div", "LpNormalization", "Mul")
_TOLERANCE = 1e-3


class Output(NamedTuple):
    """Where vectors come from.

    Attributes:
        session: An onnxruntime session.
        name: The output to ask it for.
    """

    session: Any
    name: str


def unscaled_output(path: Path, scaled: Output, inputs: dict[str, NDArray[Any]]) -> Output:
    """The output with the lengths that the network itself gives.

    Some exports divide the embedding by its length as their last step. What goes into that step is then opened as an
    output of a second session. It is recognised by its numbers: brought to unit length, it must be the embedding.

    Args:
        path: The ONNX file.
        scaled: The file's own output, an embedding.
        inputs: Some batch for the session, of the kind that the network takes.

    Returns:
        The output before the scaling; `scaled` itself where its vectors are of any length already, or where nothing of
        the kind is found in the graph.

    Raises:
        DependencyError: If vectors are of unit length and the onnx package is not installed.
    """
    given = _vectors(scaled.session.run([scaled.name], inputs)[0])
    if not (np.abs(np.linalg.norm(given, axis=1) - 1) <= _TOLERANCE).all():
        return scaled
    session, names = _open_last_step(path, scaled)
    for name in names:
        found = _vectors(session.run([name], inputs)[0])
        if found.shape == given.shape and np.allclose(unit_rows(found), unit_rows(given), atol=_TOLERANCE):
            return Output(session, name)
    return scaled


def _open_last_step(path: Path, scaled: Output) -> tuple[Any, list[str]]:
    """A session that also gives what goes into the step that makes the embedding, and the names of that."""
    try:
        import onnx
    except ImportError as error:
        raise DependencyError(f"reading {path.name} needs onnx: pip install onnx ({error})") from error
    import onnxruntime

    model = onnx.load(str(path))
    made = {name: node for node in model.graph.node for name in node.output}
    last = made.get(scaled.name)
    if last is None or last.op_type not in _LAST_STEPS:
        return scaled.session, []
    names = [name for name in last.input if name in made]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = session_options()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=session_providers(scaled.session)
    )
    return session, names


def _vectors(output: NDArray[Any]) -> NDArray[Any]:
    """One vector a row; a step's second input may be a number for each row, or one for all."""
    rows: NDArray[Any] = np.atleast_2d(output)
    return rows.reshape(len(rows), -1)
