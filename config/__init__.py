from config.memory import few_arenas

# Every process of the product comes by here before it starts a thread.
few_arenas()

from config.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
