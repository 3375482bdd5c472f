"""The edge: one table of routes, one handler over a transport seam, and the adapter that serves it by ASGI."""
