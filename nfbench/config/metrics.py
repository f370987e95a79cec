"""Names of metrics in the configuration."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticCustomError

from nfbench.core.errors import NfbenchError
from nfbench.metrics import find_metric, known_metrics

__all__ = ["MetricName", "metrics_in"]


def _is_known(name: str) -> str:
    try:
        return find_metric(name).name
    except NfbenchError as error:
        raise PydanticCustomError("unknown_metric", "{message}", {"message": str(error)}) from None


MetricName = Annotated[str, AfterValidator(_is_known)]


def metrics_in(part: Any) -> Iterator[str]:
    """Yield all values in a part of the configuration, such as a table, that are names of metrics."""
    if isinstance(part, BaseModel):
        part = part.model_dump()
    if isinstance(part, str) and part in known_metrics():
        yield part
    elif isinstance(part, Mapping):
        yield from metrics_in(list(part.values()))
    elif isinstance(part, list | tuple):
        for value in part:
            yield from metrics_in(value)
