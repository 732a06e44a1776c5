"""The engine of this worker process: pool, HTTP clients and settings, made once by the first job that needs them."""

import asyncio

from postflow import config, db
from postflow.engine import Engine, engine_over

_lock = asyncio.Lock()
_engine: Engine | None = None
#: Jobs at a time, where the command says otherwise than the settings.
slots: int | None = None


async def ready() -> Engine:
    """Opened inside the running loop; the process's end closes it."""
    global _engine
    async with _lock:
        if _engine is None:
            _engine = await _opened()
    return _engine


async def _opened() -> Engine:
    settings = config.load()
    settings = settings.model_copy(update={"concurrency": slots or settings.concurrency})
    pool = db.async_pool(settings.database_url.get_secret_value(), max_size=settings.database_connections)
    await pool.open()
    return engine_over(settings, pool)
