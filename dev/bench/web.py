"""The page that the engine's runs probe: `python -m dev.bench.web ADDRESS PORT`."""

import sys

from aiohttp import web


async def well(_: web.Request) -> web.Response:
    """Answer that all is well."""
    return web.Response(text="well")


def main(address: str, port: int) -> None:
    """Serve until told to stop."""
    application = web.Application()
    application.router.add_get("/", well)
    web.run_app(application, host=address, port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
