"""The pages that runs and policies probe: `python -m dev.bench.web ADDRESS PORT`. POST /break makes /ill fail."""

import sys

from aiohttp import web


async def well(_: web.Request) -> web.Response:
    """Answer that all is well."""
    return web.Response(text="well")


class Ill:
    """A page that answers until somebody breaks it."""

    broken = False

    async def break_(self, _: web.Request) -> web.Response:
        """Be ill from now on."""
        self.broken = True
        return web.Response(text="broken")

    async def get(self, _: web.Request) -> web.Response:
        """Answer, or fail."""
        return web.Response(status=503, text="ill") if self.broken else web.Response(text="well")


def main(address: str, port: int) -> None:
    """Serve until told to stop."""
    application = web.Application()
    ill = Ill()
    application.router.add_get("/", well)
    application.router.add_get("/ill", ill.get)
    application.router.add_post("/break", ill.break_)
    web.run_app(application, host=address, port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
