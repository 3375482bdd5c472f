"""Operations on accounts and projects."""

from __future__ import annotations

from collections.abc import Sequence

from arkway.admin.tenancy import AccountInfo, Accounts, ProjectInfo, Projects
from arkway.core.errors import InvalidField
from arkway.core.roles import reaches
from arkway.http.admin.commands import Commands
from arkway.http.admin.errors import Conflict, NotFound
from arkway.http.admin.operations import Operation, Request
from arkway.http.admin.paging import Order
from arkway.http.admin.shapes import CreateAccount, CreateProject, Removed, Rename

OLDEST_FIRST = Order(lambda item: (item.created_at, item.id))


def list_accounts(commands: Commands, request: Request) -> Sequence[AccountInfo]:
    return commands.accounts(request.actor).list()


def create_account(commands: Commands, request: Request) -> AccountInfo:
    """Raises Conflict where there is such an account."""
    body: CreateAccount = request.body
    accounts = commands.accounts(request.actor)
    try:
        return accounts.create(request.now_s, body.id, body.name)
    except InvalidField as error:
        raise _taken(error, body.id, accounts.list()) from None


def show_account(commands: Commands, request: Request) -> AccountInfo:
    return _account(commands.accounts(request.actor), request.name)


def rename_account(commands: Commands, request: Request) -> AccountInfo:
    """Raises NotFound, InvalidField for a name that cannot be printed."""
    body: Rename = request.body
    accounts = commands.accounts(request.actor)
    _account(accounts, request.name)
    accounts.rename(request.name, body.name)
    return _account(accounts, request.name)


def suspend_account(commands: Commands, request: Request) -> AccountInfo:
    """Raises NotFound, Conflict for the operator's own."""
    accounts = commands.accounts(request.actor)
    _account(accounts, request.name)
    try:
        accounts.suspend(request.name)
    except InvalidField as error:
        raise Conflict(error.message) from None
    return _account(accounts, request.name)


def resume_account(commands: Commands, request: Request) -> AccountInfo:
    """Raises NotFound."""
    accounts = commands.accounts(request.actor)
    _account(accounts, request.name)
    accounts.resume(request.name)
    return _account(accounts, request.name)


def list_projects(commands: Commands, request: Request) -> Sequence[ProjectInfo]:
    """Those that the caller reaches."""
    found = commands.projects(request.account, request.actor).list()
    return [project for project in found if reaches(request.caller, request.account, project.id)]


def create_project(commands: Commands, request: Request) -> ProjectInfo:
    """Raises Conflict where the account has such a project."""
    body: CreateProject = request.body
    projects = commands.projects(request.account, request.actor)
    try:
        return projects.create(body.id, request.now_s, body.name)
    except InvalidField as error:
        raise _taken(error, body.id, projects.list(), body.name or body.id) from None


def show_project(commands: Commands, request: Request) -> ProjectInfo:
    """Raises NotFound, also for a project of the account that the caller does not reach."""
    found = _project(commands.projects(request.account, request.actor), request.name)
    if not reaches(request.caller, request.account, found.id):
        raise NotFound("project", request.name)
    return found


def rename_project(commands: Commands, request: Request) -> ProjectInfo:
    """Raises NotFound, Conflict for another project's name."""
    body: Rename = request.body
    projects = commands.projects(request.account, request.actor)
    _project(projects, request.name)
    try:
        projects.rename(request.name, body.name)
    except InvalidField as error:
        others = [info for info in projects.list() if info.id != request.name]
        raise _taken(error, "", others, body.name) from None
    return _project(projects, request.name)


def delete_project(commands: Commands, request: Request) -> Removed:
    """Raises NotFound, Conflict for one that holds anything and for the account's first."""
    projects = commands.projects(request.account, request.actor)
    _project(projects, request.name)
    try:
        projects.delete(request.name)
    except InvalidField as error:
        _project(projects, request.name)
        raise Conflict(error.message) from None
    return Removed(1)


def _account(accounts: Accounts, account: str) -> AccountInfo:
    try:
        return accounts.show(account)
    except InvalidField:
        raise NotFound("account", account) from None


def _project(projects: Projects, project: str) -> ProjectInfo:
    try:
        return projects.show(project)
    except InvalidField:
        raise NotFound("project", project) from None


def _taken(
    error: InvalidField, wanted: str, there: Sequence[AccountInfo | ProjectInfo], name: str = ""
) -> InvalidField | Conflict:
    """What it is: something of the same id (of a project: or the same name) is there, or a field is wrong."""
    same = any(wanted == info.id or (name and name == info.name) for info in there)
    return Conflict(error.message) if same else error


OPERATIONS = (
    Operation(
        id="accounts.list",
        method="GET",
        path="/accounts",
        summary="List accounts, suspended ones too",
        permission="accounts.read",
        run=list_accounts,
        answer=AccountInfo,
        within="host",
        order=OLDEST_FIRST,
    ),
    Operation(
        id="accounts.create",
        method="POST",
        path="/accounts",
        summary="Make an account with the project `default`",
        permission="accounts.create",
        run=create_account,
        answer=AccountInfo,
        within="host",
        body=CreateAccount,
        conflicts=True,
        status=201,
    ),
    Operation(
        id="accounts.show",
        method="GET",
        path="/accounts/{account}",
        summary="Show an account",
        permission="accounts.read",
        run=show_account,
        answer=AccountInfo,
        within="host",
    ),
    Operation(
        id="accounts.rename",
        method="PATCH",
        path="/accounts/{account}",
        summary="Give an account another name",
        permission="accounts.rename",
        run=rename_account,
        answer=AccountInfo,
        within="host",
        body=Rename,
    ),
    Operation(
        id="accounts.suspend",
        method="POST",
        path="/accounts/{account}/suspend",
        summary="Refuse every credential of an account",
        permission="accounts.suspend",
        run=suspend_account,
        answer=AccountInfo,
        within="host",
        conflicts=True,
    ),
    Operation(
        id="accounts.resume",
        method="POST",
        path="/accounts/{account}/resume",
        summary="Take the credentials of a suspended account again",
        permission="accounts.resume",
        run=resume_account,
        answer=AccountInfo,
        within="host",
    ),
    Operation(
        id="projects.list",
        method="GET",
        path="/projects",
        summary="List the projects of an account",
        permission="projects.read",
        run=list_projects,
        answer=ProjectInfo,
        within="account",
        order=OLDEST_FIRST,
    ),
    Operation(
        id="projects.create",
        method="POST",
        path="/projects",
        summary="Make a project",
        permission="projects.create",
        run=create_project,
        answer=ProjectInfo,
        within="account",
        body=CreateProject,
        conflicts=True,
        status=201,
    ),
    Operation(
        id="projects.show",
        method="GET",
        path="/projects/{project}",
        summary="Show a project",
        permission="projects.read",
        run=show_project,
        answer=ProjectInfo,
        within="account",
    ),
    Operation(
        id="projects.rename",
        method="PATCH",
        path="/projects/{project}",
        summary="Give a project another name",
        permission="projects.rename",
        run=rename_project,
        answer=ProjectInfo,
        within="account",
        body=Rename,
        conflicts=True,
    ),
    Operation(
        id="projects.delete",
        method="DELETE",
        path="/projects/{project}",
        summary="Delete a project that holds nothing",
        permission="projects.delete",
        run=delete_project,
        answer=Removed,
        within="account",
        conflicts=True,
    ),
)
