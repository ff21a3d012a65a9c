"""How a conversation moves along its routes: pointers checked, steps passed, routes completed."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from turnkeep._callbacks import call_by_name
from turnkeep.agent.reply import ExecutedStep
from turnkeep.agent.schema import missing
from turnkeep.hooks import SessionView
from turnkeep.providers.base import RouteInfo, StepInfo
from turnkeep.routing import enter_route, enter_step, has_completed, leave_route, leave_step
from turnkeep.turn import merge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnkeep._dispatch import Offload
    from turnkeep.agent.routes import Route, Routes, Step
    from turnkeep.models import RouteRef
    from turnkeep.turn import Draft, OpenTurn

_log = logging.getLogger("turnkeep.agent")


class Progress:
    """The routes of an agent, walked by one turn.

    Args:
        routes: the agent's.
        turn: the open turn; its context and draft are what callbacks see and change.
        set_data: stages data once schema and listeners agreed.
        offload: runs plain callbacks elsewhere than on the loop.

    Attributes:
        executed: the steps that the turn has finished, in order.
        entered: the routes it has entered.
        completed: the routes it has completed.
    """

    def __init__(
        self,
        routes: Routes,
        turn: OpenTurn,
        set_data: Callable[[dict[str, Any]], Awaitable[None]],
        offload: Offload | None,
    ) -> None:
        self._routes = routes
        self._turn = turn
        self._draft: Draft = turn.draft
        self._set_data = set_data
        self._offload = offload
        self.executed: list[ExecutedStep] = []
        self.entered: list[RouteRef] = []
        self.completed: list[RouteRef] = []
        self.after_the_word = False  # the assistant has spoken: what is arrived at now it has not spoken for
        self._lost = False  # a stored pointer to a step was of no use
        self._chained = False  # on a route that on_complete led to, after the assistant has spoken

    @property
    def route(self) -> Route | None:
        """The route the conversation is on."""
        current = self._draft.state.current_route
        return None if current is None else self._routes.get(current.id)

    @property
    def step(self) -> Step | None:
        """The step the conversation is at."""
        current = self._draft.state.current_step
        route = self.route
        return None if current is None or route is None else route.step(current.id)

    def drop_unknown_pointers(self) -> None:
        """Clears pointers to routes and steps the agent does not have any more, with one warning. Data is kept."""
        state = self._draft.state
        if state.current_route is not None and self.route is None:
            _log.warning(
                "session %r was on route %r, which this agent does not have; its data is kept",
                state.id,
                state.current_route.id,
            )
            self._draft.stage(leave_route(state, _now()))
        elif state.current_step is not None and self.step is None:
            _log.warning("session %r was at step %r, which its route does not have", state.id, state.current_step.id)
            self._lost = True
            self._draft.stage(leave_step(state))

    @property
    def spoken_for(self) -> Step | None:
        """The step that the assistant has spoken for: what the user says answers it."""
        current = self._draft.state.current_step
        return self.step if current is not None and current.spoken else None

    def speak(self) -> None:
        """Notes that the assistant has spoken for the current step."""
        current = self._draft.state.current_step
        if current is not None and not current.spoken:
            self._draft.stage(self._draft.state.replace(current_step=replace(current, spoken=True)))

    async def prepare(self) -> None:
        """Lets the current step prepare itself for the provider's call."""
        step = self.step
        if step is not None and step.prepare is not None:
            await self._call(step.prepare)

    async def infos(self) -> tuple[RouteInfo, ...]:
        """The routes the conversation may take or is on."""
        current = self.route
        return tuple(
            [
                await self.info(route)
                for route in self._routes
                if route is current or not callable(route.when) or await self._holds(route.when)
            ]
        )

    async def info(self, route: Route) -> RouteInfo:
        """A route as a provider sees it: what is skipped or done already is left out."""
        state = self._draft.state
        completed = has_completed(state, route.id)
        # Entering a completed route begins it anew.
        data = {} if completed and route is not self.route else state.data
        ahead: list[Step] = []
        for step in route.steps:
            undone = not step.collect or bool(missing(step.collect, data))
            # Only up to the next step: what those behind it depend on may not be known yet.
            if undone and (ahead or not await self._is_skipped(step)):
                ahead.append(step)
        return RouteInfo(
            id=route.id,
            title=route.title,
            when=route.when if isinstance(route.when, str) else None,
            required_fields=route.required_fields,
            steps=tuple(step_info(step) for step in ahead),
            missing=tuple(dict.fromkeys(name for step in ahead for name in missing(step.collect, data))),
            completed=completed,
        )

    async def enter(self, route: Route) -> None:
        """The conversation takes a route. One it had completed begins anew: what its steps collect is asked again."""
        state = self._draft.state
        if has_completed(state, route.id):
            await self._set_data({name: value for name, value in state.data.items() if name not in route.collects})
        state = enter_route(self._draft.state, route.id, route.title, _now())
        self._draft.stage(state)
        assert state.current_route is not None
        self.entered.append(state.current_route)

    async def advance(self, *, spoken_for: Step | None) -> None:
        """Passes every step that is done, then stops at the next one, or completes the route.

        ``spoken_for`` is the step the assistant had already spoken for when the turn began.
        """
        seen: set[str] = set()
        while (route := self.route) is not None and route.id not in seen:
            seen.add(route.id)
            under_way = await self._walk(route, spoken_for)
            if not self._is_complete(route, under_way=under_way):
                return
            await self._complete(route)

    async def _walk(self, route: Route, spoken_for: Step | None) -> bool:
        """Goes to the next step that is not done; False where there is none."""
        at = self.step
        entered_now = any(entered.id == route.id for entered in self.entered)
        walked = at is not None or entered_now
        if walked:
            for step in route.steps[route.steps.index(at) if at is not None else 0 :]:
                if not await self._applies(step):
                    continue
                if step is not self.step:
                    self._go_to(step)
                if not self._is_done(step, spoken_for):
                    return True
                await self._finish(route, step)
            self._draft.stage(leave_step(self._draft.state))
        # Steps that did not apply when they were passed may by now; those that were done are not done again.
        for step in route.steps:
            open_still = missing(step.collect, self._draft.state.data) if step.collect else self._lost
            if open_still and await self._applies(step):
                self._lost = False
                self._go_to(step)
                return True
        return not walked

    def _go_to(self, step: Step) -> None:
        state = enter_step(self._draft.state, step.id, step.text, _now(), spoken=not self._chained)
        self._draft.stage(state)

    def _is_done(self, step: Step, spoken_for: Step | None) -> bool:
        if not step.collect:
            return step is spoken_for
        return not missing(step.collect, self._draft.state.data)

    async def _finish(self, route: Route, step: Step) -> None:
        self.executed.append(ExecutedStep(route.id, step.id))
        if step.finalize is not None:
            result = await self._call(step.finalize)
            if isinstance(result, dict):
                await self._set_data(merge(self._draft.state.data, cast("dict[str, Any]", result)))

    async def _applies(self, step: Step) -> bool:
        return not missing(step.requires, self._draft.state.data) and not await self._is_skipped(step)

    async def _is_skipped(self, step: Step) -> bool:
        if step.skip_if is not None and await self._holds(step.skip_if):
            return True
        return callable(step.when) and not await self._holds(step.when)

    def _is_complete(self, route: Route, *, under_way: bool) -> bool:
        if route.required_fields:
            return not missing(route.required_fields, self._draft.state.data)
        return bool(route.steps) and not under_way

    async def _complete(self, route: Route) -> None:
        current = self._draft.state.current_route
        assert current is not None
        self._draft.stage(leave_route(self._draft.state, _now(), completed=True))
        self.completed.append(current)
        following = route.on_complete
        if callable(following):
            following = await self._call(following)
        if following is None:
            return
        found = self._routes.find(str(following))
        if found is None:
            _log.warning("on_complete of route %r names no route: %r", route.id, following)
            return
        self._chained = self.after_the_word
        await self.enter(found)

    async def _holds(self, condition: Callable[..., Any]) -> bool:
        return bool(await self._call(condition))

    async def _call(self, function: Callable[..., Any]) -> Any:
        state = self._draft.state
        offered = {
            "data": state.data,
            "context": self._turn.context,
            "session": SessionView.of(state, self._draft.key.scope.namespace),
            "turn": self._turn,
        }
        return await call_by_name(function, offered, self._offload)


def step_info(step: Step) -> StepInfo:
    """A step as a provider sees it."""
    return StepInfo(step.id, step.text, step.collect, step.when if isinstance(step.when, str) else None)


def _now() -> datetime:
    return datetime.now(UTC)
