"""notifications: what is sealed in the store and what goes, with the names, results and bytes of pyarrow.plasma."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from typing import Any, List, Optional, Tuple

from . import _abi
from ._lib import lib
from .buffer import Source
from .connection import Connection
from .errors import PlasmaDisconnected, PlasmaForked, PlasmaInvalidArgument, check
from .object_id import ObjectID
from .waiting import until_done

GONE = -1
EVENT_SIZE = ctypes.sizeof(_abi.plasma_event)


class _Subscription:
    """The `plasma_subscription`. Every call keeps a reference to it, so it is freed when it was dropped and no call is in it."""

    __slots__ = ("pointer",)

    def __init__(self) -> None:
        self.pointer = ctypes.POINTER(_abi.plasma_subscription)()

    # In a forked child the library does nothing here but close its copy of the descriptor.
    def __del__(self, free: Any = lib.plasma_subscription_free) -> None:
        if hasattr(self, "pointer"):
            free(self.pointer)


class NotificationSocket(socket.socket):
    """The stream of notifications. Closing it ends them, except in a forked child."""

    _process: Optional[int] = None

    def close(self) -> None:
        if self._process == os.getpid() and self.fileno() >= 0:
            # The client has the descriptor as well, so that closing this one would end nothing.
            with contextlib.suppress(OSError):
                self.shutdown(socket.SHUT_RDWR)
        super().close()


class Notifications(Connection):
    """The part of `PlasmaClient` that tells what happens to objects. A client has one stream of notifications at a time."""

    _subscription: Optional[_Subscription] = None

    def subscribe(self) -> None:
        """Begins the stream, anew if there is one: a notification for each sealed object, then one whenever an object is sealed,
        deleted or evicted.

        The store drops a subscriber that leaves 64 MiB of them unread; the next call then raises PlasmaDisconnected, which says so.
        """
        handle, subscription = self._live(), _Subscription()
        check(lib.plasma_subscribe(handle.pointer, None, subscription.pointer))
        self._end_stream()
        self._subscription = subscription

    def get_next_notification(self) -> Tuple[ObjectID, int, int]:
        """Waits for the next notification: the id, the bytes of data and those of metadata; both are -1 for an object that went.

        Raises PlasmaInterrupted, as a get does; PlasmaDisconnected, an OSError, when the stream has ended.

            >>> client.subscribe()
            >>> object_id = client.put_raw_buffer(b"hello", metadata=b"me")
            >>> client.get_next_notification() == (object_id, 5, 2)
            True
        """
        handle, subscription, interrupts = self._live(), self._subscription, self._interrupts
        if subscription is None:
            raise PlasmaDisconnected(f"this client of {self._name()} has not subscribed")
        event = _abi.plasma_event(struct_size=EVENT_SIZE)

        def call(left_ms: int) -> int:
            status: int = lib.plasma_subscription_next(subscription.pointer, left_ms, event)
            return status

        check(until_done(call, -1, lambda: self._interrupts != interrupts))
        del handle
        return _decoded(event)

    def get_notification_socket(self) -> NotificationSocket:
        """A socket of the stream, to be polled and read: it can be read when `get_next_notification` has something.

        Read from it, each notification is an int64 length and that many bytes for `decode_notifications`. Closing it ends the
        stream. Raises PlasmaInvalidArgument, a ValueError, before `subscribe`.
        """
        self._live()
        if self._subscription is None:
            raise PlasmaInvalidArgument(f"this client of {self._name()} has not subscribed, so there is no socket")
        descriptor = lib.plasma_subscription_fd(self._subscription.pointer)
        if descriptor < 0:
            raise PlasmaForked("this client was made by the parent process; connect again after fork")
        stream = NotificationSocket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(descriptor))
        stream._process = os.getpid()
        return stream

    def decode_notifications(self, buf: bytes) -> Tuple[List[ObjectID], List[int], List[int]]:
        """The ids, bytes of data and bytes of metadata in what was read from the socket, without the length in front of it.

        Raises PlasmaProtocolError for what is no notification.
        """
        source, count = Source(buf), ctypes.c_size_t()
        check(lib.plasma_decode_events(source.pointer, len(source), None, 0, count))
        events = (_abi.plasma_event * count.value)(*[_abi.plasma_event(struct_size=EVENT_SIZE)] * count.value)
        check(lib.plasma_decode_events(source.pointer, len(source), events, count.value, count))
        decoded = [_decoded(event) for event in events]
        return [known[0] for known in decoded], [known[1] for known in decoded], [known[2] for known in decoded]

    def disconnect(self) -> None:
        self._end_stream()
        super().disconnect()

    def _end_stream(self) -> None:
        """Ends the stream also for a thread that is about to wait for it, and which an interrupt would miss."""
        if self._subscription is not None:
            with contextlib.suppress(PlasmaDisconnected, PlasmaForked):
                self.get_notification_socket().close()
            self._subscription = None

    disconnect.__doc__ = Connection.disconnect.__doc__

    def _told(self) -> List[str]:
        return [*super()._told(), *(["subscribed"] if self._subscription is not None else [])]


def _decoded(event: _abi.plasma_event) -> Tuple[ObjectID, int, int]:
    object_id = ObjectID(bytes(event.id))
    if event.kind == _abi.PLASMA_EVENT_DELETED:
        return object_id, GONE, GONE
    return object_id, event.data_size, event.metadata_size
