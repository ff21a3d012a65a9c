"""Where replies come from: the contract for model access, and a provider that needs no model."""

from turnkeep.providers.base import (
    FieldProblems,
    Provider,
    ProviderReply,
    ProviderRequest,
    RouteInfo,
    StepInfo,
    ToolSpec,
)
from turnkeep.providers.guided import GuidedProvider

__all__ = [
    "FieldProblems",
    "GuidedProvider",
    "Provider",
    "ProviderReply",
    "ProviderRequest",
    "RouteInfo",
    "StepInfo",
    "ToolSpec",
]
