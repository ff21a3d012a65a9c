"""The agent: provider, routes, tools and context around one session per conversation."""

from turnkeep.agent.agent import Agent
from turnkeep.agent.reply import ExecutedStep, Reply, StreamChunk
from turnkeep.agent.routes import Route, Step
from turnkeep.agent.stream import ReplyStream
from turnkeep.agent.tools import Tool, ToolInvocation, tool

__all__ = [
    "Agent",
    "ExecutedStep",
    "Reply",
    "ReplyStream",
    "Route",
    "Step",
    "StreamChunk",
    "Tool",
    "ToolInvocation",
    "tool",
]
