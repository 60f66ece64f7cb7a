"""What onnxruntime says of a session on a GPU; no such session is at hand without one."""

from __future__ import annotations


class SessionOnGpu:
    """The providers of a session, and the GPU's number as onnxruntime gives it: a text, or nothing."""

    def __init__(self, number: str | None, *providers: str) -> None:
        self._options = {name: {} if number is None else {"device_id": number} for name in providers}

    def get_providers(self) -> list[str]:
        return [*self._options, "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {**self._options, "CPUExecutionProvider": {}}
