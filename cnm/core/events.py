"""What happened: a bounded history, and subscribers that each have a bounded queue."""

from __future__ import annotations

import collections
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

HISTORY = 1024  # events kept for `since`: Docker keeps 256
QUEUE = 4096  # events a slow subscriber may lag behind before it is cut off


@dataclass(frozen=True, slots=True)
class Event:
    """One event, in the Engine API's words. ``time_ns``: nanoseconds since the epoch."""

    type: str  # network, container, daemon
    action: str
    actor_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time_ns: int = 0
    scope: str = "local"


class Subscription:
    """A reader of events from the moment it was made."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._queue: queue.Queue[Event] = queue.Queue(QUEUE)
        self.lost = False  # fell too far behind: no more events come

    def get(self, timeout_s: float) -> Event | None:
        """The next event, or None after ``timeout_s`` seconds."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Stop listening."""
        self._events.unsubscribe(self)

    def offer(self, event: Event) -> bool:
        """Never blocks: whoever publishes must not wait for whoever reads."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.lost = True
            return False
        return True


class Events:
    """The daemon's event bus."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._history: collections.deque[Event] = collections.deque(maxlen=HISTORY)
        self._subscribers: list[Subscription] = []

    def publish(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """Record an event and hand it to all subscribers."""
        event = Event(type, action, actor_id, dict(attributes), time.time_ns())
        with self._mutex:
            self._history.append(event)
            self._subscribers = [item for item in self._subscribers if item.offer(event)]

    def subscribe(self, since_ns: int | None = None) -> Subscription:
        """Listen from now on; with ``since_ns`` the history from then on comes first."""
        subscription = Subscription(self)
        with self._mutex:
            for event in self._history:
                if since_ns is not None and event.time_ns >= since_ns:
                    subscription.offer(event)
            self._subscribers.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """See :meth:`Subscription.close`."""
        with self._mutex:
            if subscription in self._subscribers:
                self._subscribers.remove(subscription)

    def backlog(self, since_ns: int, until_ns: int) -> list[Event]:
        """The history between two times."""
        with self._mutex:
            return [event for event in self._history if since_ns <= event.time_ns <= until_ns]
