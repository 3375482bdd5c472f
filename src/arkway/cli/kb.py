"""``arkway kb``: collections of documents that bots look things up in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, print_table
from arkway.cli.intake import Desk, desk, print_jobs, report
from arkway.cli.kb_files import checked, print_plan, source_of, taken_in, told_plan
from arkway.cli.kb_shown import (
    finding,
    print_collection,
    print_deleted,
    print_document,
    print_documents,
    print_hit,
    with_count,
)
from arkway.cli.tenant import Place, place_options

if TYPE_CHECKING:
    from arkway.core.knowledge import Collection, Document, Hit, Job
    from arkway.knowledge.folder import Plan

KINDS = ("documents", "pages")
file_path = click.Path(path_type=Path, exists=True, dir_okay=False)
collection_argument = click.argument("collection", metavar="COLLECTION")


@click.group("kb")
def command() -> None:
    """Collections of documents that bots look things up in.

    \b
    arkway kb create manual                      an empty collection
    arkway kb add manual guide.pdf faq.md        take files in: md, txt, html, pdf, docx, pptx, xlsx, csv
    arkway kb sync manual docs/                  ... or a whole folder, again and again
    arkway kb search manual "how long is the warranty"
    arkway bots create --name helper --endpoint ep-… --action knowledge:manual

    Words find without a model, in Chinese as in English. With --endpoint, the vectors of an embedding model count
    too, once it has shown on the collection's own documents that it finds about as much as words do.

    A COLLECTION is named by its name or its id. Everything works beside a running server, and without one.
    """


@command.command("create")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="documents", show_default=True, help="pages: web pages, for "
              "the offline web search of bots; see `arkway kb crawl-dir`.")  # fmt: skip
@click.option("--endpoint", "endpoint_id", default="", metavar="EP", help="Its model makes vectors of every chunk.")
@click.option("--description", default="", help="For people to read.")
@as_json_option
@place_options
@click.pass_context
def create_collection(
    ctx: click.Context, place: Place, name: str, kind: Any, endpoint_id: str, description: str, as_json: bool
) -> None:
    """Make a collection called NAME, which is what bots' actions say.

    \b
    arkway kb create manual --description "Guides of our pumps"
    arkway kb create manual --endpoint ep-…      vectors too, of an embedding model such as use-multilingual
    """
    with desk(ctx, place) as at:
        made = at.holdings.create(name, now_s(), kind=kind, description=description, endpoint_id=endpoint_id)
    print_collection(made, 0, as_json)


@command.command("list")
@as_json_option
@place_options
@click.pass_context
def list_collections(ctx: click.Context, place: Place, as_json: bool) -> None:
    """List collections, and how many documents each has."""
    with desk(ctx, place) as at:
        found = [(each, at.holdings.documents(each.id, 0, 1)[1]) for each in at.holdings.list()]
    if as_json:
        echo_json([with_count(*each) for each in found])
        return
    if not found:
        click.echo("there is no collection; `arkway kb create` makes one")
        return
    rows = [(each.id, each.name, each.kind, finding(each), moment(each.updated_at), str(n)) for each, n in found]
    print_table(("id", "name", "kind", "found by", "changed (UTC)", "documents"), rows, numbers_from=5)


@command.command("show")
@collection_argument
@as_json_option
@place_options
@click.pass_context
def show_collection(ctx: click.Context, place: Place, collection: str, as_json: bool) -> None:
    """Show one collection."""
    with desk(ctx, place) as at:
        found = at.holdings.show(collection)
        count = at.holdings.documents(found.id, 0, 1)[1]
    print_collection(found, count, as_json)
    _say_if_outdated(found)


@command.command("update")
@collection_argument
@click.option("--endpoint", "endpoint_id", metavar="EP", help="Another one that makes vectors; '' = words alone.")
@click.option("--description", help="For people to read.")
@as_json_option
@place_options
@click.pass_context
def update_collection(
    ctx: click.Context, place: Place, collection: str, endpoint_id: str | None, description: str | None, as_json: bool
) -> None:
    """Change a collection: what is not named stays. Its name stays too, as bots name it.

    With another endpoint the vectors are made anew by a running server; words go on finding meanwhile.
    """
    from arkway.knowledge.holdings import CollectionChange

    change = CollectionChange(endpoint_id=endpoint_id, description=description)
    if change == CollectionChange():
        raise click.UsageError("name what is to change: --endpoint or --description")
    with desk(ctx, place) as at:
        found = at.holdings.update(collection, change, now_s())
        count = at.holdings.documents(found.id, 0, 1)[1]
    print_collection(found, count, as_json)


@command.command("delete")
@collection_argument
@as_json_option
@place_options
@click.pass_context
def delete_collection(ctx: click.Context, place: Place, collection: str, as_json: bool) -> None:
    """Delete a collection with everything in it, for good. Bots that name it answer without it."""
    with desk(ctx, place) as at:
        gone = at.holdings.delete(collection)
    if as_json:
        echo_json({"id": gone.id, "name": gone.name, "status": "deleted"})
        return
    click.echo(f"deleted {gone.name} ({gone.id})")


@command.command("add")
@collection_argument
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--source", default="", help="What you call the document, with one FILE; by default its path as given.")
@click.option("--title", default="", help="In place of the title that the file gives, with one FILE.")
@click.option("--url", default="", help="Where the document is on the web, with one FILE.")
@click.option("--no-wait", is_flag=True, help="Only hand the files over; a running server takes them in.")
@as_json_option
@place_options
@click.pass_context
def add_files(
    ctx: click.Context,
    place: Place,
    collection: str,
    files: tuple[Path, ...],
    source: str,
    title: str,
    url: str,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Take files into a collection.

    Markdown, text, HTML, PDF with text, Word (docx), slides (pptx), spreadsheets (xlsx, xls, ods) and CSV, at most
    100 MiB each. A file that was added before, under the same source, takes the place of what it was: only the
    chunks that have changed are made anew.

    \b
    arkway kb add manual guide.pdf faq.md
    arkway kb add manual export.html --source https://example.com/guide --url https://example.com/guide
    """
    if (source or title or url) and len(files) > 1:
        raise click.UsageError("--source, --title and --url go with one FILE only; add the others apart")
    meta = {name: value for name, value in (("title", title), ("url", url)) if value}
    with desk(ctx, place) as at:
        at.holdings.show(collection)
        bodies = [(path, checked(path)) for path in files]
        uploads = (
            at.holdings.upload(collection, path.name, body(), now_s(), source=source or source_of(path), meta=meta)
            for path, body in bodies
        )
        jobs = taken_in(at, uploads, wait=not no_wait)
        vectors = bool(at.holdings.show(collection).endpoint_id)
    report(ctx, jobs, as_json=as_json, vectors=vectors)


@command.command("sync")
@collection_argument
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--as", "label", default="", help="What the folder is called here; by default its own name.")
@click.option("--keep", is_flag=True, help="Keep documents whose files are gone.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@as_json_option
@place_options
@click.pass_context
def sync_folder(
    ctx: click.Context,
    place: Place,
    collection: str,
    folder: Path,
    label: str,
    keep: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a collection have what a folder has: what is new, what has changed; what is gone is deleted.

    Documents are called by the folder's label and the path in it (docs/guide.md). Only documents of this label are
    ever deleted, so that a collection can have several folders, and files that were added apart. Hidden files and
    links are left alone.

    \b
    arkway kb sync manual docs/ --dry-run
    arkway kb sync manual docs/
    """
    from arkway.knowledge.folder import compared

    with desk(ctx, place) as at:
        chunk_chars = at.settings.knowledge.chunk_chars
        plan = compared(
            folder, label or folder.resolve().name, list(at.holdings.every_document(collection)), chunk_chars
        )
        gone = () if keep else plan.gone
        jobs = [] if dry_run else _synced(at, collection, plan, gone)
        vectors = bool(at.holdings.show(collection).endpoint_id and jobs)
    told = told_plan(plan, gone)
    if not as_json:
        print_plan(plan, gone, dry_run=dry_run)
    report(ctx, jobs, as_json=as_json, vectors=vectors, **told)


@command.command("crawl-dir")
@collection_argument
@click.argument("pages", type=click.Path(path_type=Path, exists=True))
@click.option("--url", "base_url", default="", help="The address that the directory was crawled from.")
@click.option("--sitemap", type=file_path, help="Only the pages that this sitemap.xml lists.")
@click.option("--no-wait", is_flag=True, help="Only hand the pages over; a running server takes them in.")
@as_json_option
@place_options
@click.pass_context
def crawl_directory(
    ctx: click.Context,
    place: Place,
    collection: str,
    pages: Path,
    base_url: str,
    sitemap: Path | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Take web pages that were crawled before into a collection of the kind pages. Nothing is fetched.

    PAGES is a directory of HTML and Markdown files, as `wget --mirror` leaves it, or a file of JSON Lines with `url`
    and `html` or `markdown` in each line. Bots whose action is web_search find them where the web search is offline.

    \b
    arkway kb create site --kind pages
    arkway kb crawl-dir site mirror/docs.example.com --url https://docs.example.com/
    """
    from arkway.search.pages import read_pages

    skipped: list[tuple[str, str]] = []
    with desk(ctx, place) as at:
        if at.holdings.show(collection).kind != "pages":
            raise click.ClickException(
                f"{collection} is a collection of documents; make one with `arkway kb create NAME --kind pages`"
            )
        found = read_pages(pages, base_url, sitemap=sitemap, skipped=lambda *told: skipped.append(told))
        uploads = (
            at.holdings.upload(
                collection,
                page.file_name,
                page.body,
                now_s(),
                source=page.source,
                meta={**page.meta, **({"title": page.title} if page.title else {})},
            )
            for page in found
        )
        jobs = taken_in(at, uploads, wait=not no_wait)
    for name, reason in skipped:
        click.echo(f"left out: {name}: {reason}", err=True)
    report(ctx, jobs, as_json=as_json)


@command.command("documents")
@collection_argument
@click.option("--show", "shown", metavar="ID", help="Show this document and its chunks.")
@click.option("--delete", "deleted", metavar="ID", help="Delete this document, for good.")
@click.option("--offset", type=click.IntRange(0, 1_000_000_000), default=0, help="Begin after so many.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@as_json_option
@place_options
@click.pass_context
def list_documents(
    ctx: click.Context,
    place: Place,
    collection: str,
    shown: str | None,
    deleted: str | None,
    offset: int,
    limit: int,
    as_json: bool,
) -> None:
    """List the documents of a collection; show one with its chunks, or delete one.

    \b
    arkway kb documents manual
    arkway kb documents manual --show 0f3b…
    arkway kb documents manual --delete 0f3b…
    """
    if shown and deleted:
        raise click.UsageError("say --show or --delete, not both")
    with desk(ctx, place) as at:
        asked = shown or deleted
        if asked:
            _check_in(at, collection, asked)
        if deleted:
            print_deleted(at.holdings.delete_document(deleted), as_json)
        elif shown:
            print_document(at.holdings, shown, as_json)
        else:
            print_documents(*at.holdings.documents(collection, offset, limit), as_json)


@command.command("search")
@collection_argument
@click.argument("question")
@click.option("--limit", type=click.IntRange(1, 50), default=5, show_default=True, help="At most so many.")
@click.option("--served", is_flag=True, help="Ask the running server: vectors count, and it may rerank.")
@click.option("--url", default="", metavar="URL", help="The server, with --served; default: that of the settings.")
@click.option("--api-key", envvar="ARK_API_KEY", default="", metavar="KEY", help="Its key, with --served; default: "
              "ARK_API_KEY.")  # fmt: skip
@as_json_option
@place_options
@click.pass_context
def search_collection(
    ctx: click.Context,
    place: Place,
    collection: str,
    question: str,
    limit: int,
    served: bool,
    url: str,
    api_key: str,
    as_json: bool,
) -> None:
    """Ask a question; the best chunks come first.

    By words alone, which needs no server and no model. A question's vector is made by a model that only a running
    server has open; --served asks that server, which finds what bots find.

    \b
    arkway kb search manual "how long is the warranty"
    arkway kb search manual "how long is the warranty" --served --api-key ark-…
    """
    if served or url:
        from arkway.cli.kb_served import asked_of_server
        from arkway.cli.where import server_url

        hits: Sequence[Hit] = asked_of_server(server_url(ctx, url), api_key, place, collection, question, limit)
    else:
        with desk(ctx, place) as at:
            hits = at.holdings.search([collection], question, limit)
            if at.holdings.show(collection).vector_weight:
                click.echo("by words alone; with --served the running server counts vectors too", err=True)
    if as_json:
        echo_json(hits)
        return
    if not hits:
        click.echo("nothing found")
    for number, hit in enumerate(hits, 1):
        print_hit(number, hit)


@command.command("reindex")
@collection_argument
@as_json_option
@place_options
@click.pass_context
def reindex_collection(ctx: click.Context, place: Place, collection: str, as_json: bool) -> None:
    """Cut every chunk into words anew: after an update of Arkway that cuts words in another way.

    Needs no files. Vectors that are missing are made by a running server.
    """
    with desk(ctx, place) as at:
        count = at.holdings.reindex(collection, now_s())
    if as_json:
        echo_json({"chunks": count})
        return
    click.echo(f"{count} chunks indexed anew")


@command.command("jobs")
@collection_argument
@click.option("--cancel", "cancelled", metavar="JOB", help="Call this one off.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@as_json_option
@place_options
@click.pass_context
def list_jobs(
    ctx: click.Context, place: Place, collection: str, cancelled: str | None, limit: int, as_json: bool
) -> None:
    """List what was taken into a collection or waits to be, the newest first, whoever works on it."""
    with desk(ctx, place) as at:
        jobs: Sequence[Job] = at.holdings.jobs(collection, limit)
        if cancelled:
            if at.holdings.job(cancelled).collection_id != at.holdings.show(collection).id:
                raise click.ClickException(f"the job {cancelled} is of another collection than {collection}")
            jobs = [at.holdings.cancel(cancelled, now_s())]
    if as_json:
        echo_json(jobs)
    elif not jobs:
        click.echo("nothing was taken in yet; `arkway kb add` does that")
    else:
        print_jobs(jobs)


def _say_if_outdated(collection: Collection) -> None:
    from arkway.knowledge.words import analyzer

    if collection.analyzer != analyzer():
        click.echo(
            f"its words were cut by {collection.analyzer}, and {analyzer()} cuts questions here, which finds less; "
            f"`arkway kb reindex {collection.name}` mends it",
            err=True,
        )


def _synced(at: Desk, collection: str, plan: Plan, gone: Sequence[Document]) -> list[Job]:
    """Carries the plan out; what is new goes in before what is gone goes out."""
    uploads = (
        at.holdings.upload(collection, Path(found.path).name, checked(Path(found.path))(), now_s(), source=found.source)
        for found in (*plan.added, *plan.changed)
    )
    ended = taken_in(at, uploads)
    for document in gone:
        at.holdings.delete_document(document.id)
    return ended


def _check_in(at: Desk, collection: str, document_id: str) -> None:
    """A document of another collection is a slip."""
    found = at.holdings.show(collection)
    if at.holdings.document(document_id).collection_id != found.id:
        raise click.ClickException(f"the document {document_id} is in another collection than {collection}")
