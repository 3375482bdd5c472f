"""The Admin API: JSON over HTTP under ``/admin/v1``, for the console and for programs.

`arkway.http.admin.table` is the table of operations, from which routing, validation and the OpenAPI document are made;
what they do is done by the same commands as the command line's (`arkway.admin`).
"""

from arkway.http.admin.api import AdminApi
from arkway.http.admin.commands import Commands
from arkway.http.admin.form import AdminForm
from arkway.http.admin.table import ROUTES

__all__ = ["ROUTES", "AdminApi", "AdminForm", "Commands"]
