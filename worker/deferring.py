"""The worker's and the web's door to `postflow.waking`."""

from postflow.waking import QUEUE, publish_later, wake

__all__ = ["QUEUE", "publish_later", "wake"]
