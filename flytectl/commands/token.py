"""``flytectl token …``: make, list and revoke tokens, for the flyte command and for apps that require one."""

from __future__ import annotations

import sys

import click

from flytectl.complete import complete_app, complete_token
from flytectl.options import app_scope, as_json, no_core_dump, out, period, say


@click.command()
@as_json
def token(*, json_: bool) -> None:
    """Print a token that is valid for an hour.

    The flyte command asks for such tokens; use one with curl for apps that require a token.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.tokens import Minted

    no_core_dump()
    made = call(Minted, "token.mint")
    out(render.to_json(made) if json_ else made.token)


@click.command()
@click.option("--name", required=True, metavar="NAME", help="Name to revoke it by.")
@click.option("--expires", default="30d", callback=period, metavar="PERIOD", help="Lifetime: 90d, 12h [30d].")
@click.option("--app", default="", metavar="APP", shell_complete=complete_app, help="Valid for this app only.")
@app_scope
@as_json
def create(name: str, expires: int, app: str, project: str, domain: str, *, json_: bool) -> None:
    """Create a token for another machine.

    Or for a program. The token is printed now and never again.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flytectl.times import for_people
    from flyted.contract.answers.tokens import Created

    no_core_dump()
    args = {"name": name, "expires_s": expires, "project": project, "domain": domain, "app": app}
    made = call(Created, "token.create", args)
    if json_:
        out(render.to_json({"token": made.token, **render.plain(made.status)}))
        return
    out(made.token)
    if sys.stderr.isatty():
        what = f"app {render.safe(made.status.app)}" if made.status.app else "everything that you may do"
        say(f"valid for {what} until {for_people(made.status.expires_at)}; it is not shown again")


@click.command()
@click.option("-A", "--all", "all_", is_flag=True, help="Include tokens of flyte and of browsers.")
@as_json
def ls(*, all_: bool, json_: bool) -> None:
    """List your tokens, never their values.

    As root, list everybody's.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.tokens import TokenList

    found = [token for token in call(TokenList, "token.list").tokens if all_ or token.kind == "named"]
    if json_:
        out(render.to_json({"tokens": found}))
    elif found:
        out(tables.tokens_table(found))
    else:
        say("no tokens; to create one: flytectl token create" + ("" if all_ else "; to include those of flyte: --all"))


@click.command()
@click.argument("tokens", nargs=-1, metavar="NAME...", shell_complete=complete_token)
@click.option(
    "-A", "--all", "all_", is_flag=True, help="All your tokens, those of browsers included; as root, all users'."
)
@as_json
def revoke(tokens: tuple[str, ...], *, all_: bool, json_: bool) -> int:
    """Revoke tokens immediately.

    NAME is the name, the ID, or the token itself.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flytectl.each import each
    from flyted.contract.answers.tokens import TokenList, TokenStatus

    if bool(tokens) == all_:
        raise click.UsageError("give either the NAMEs of tokens or --all")

    def end(word: str) -> tuple[TokenStatus, ...]:
        ended = call(TokenList, "token.revoke", {"token": word, "all": all_}).tokens
        for one in () if json_ else ended:
            out(f"token '{render.safe(one.name or one.id)}' is revoked")
        return ended

    return each(tokens or ("",), end, "tokens", as_json=json_)
