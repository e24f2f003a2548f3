"""``flytectl secret …``: store, list and delete secrets. Nothing here can show a value, not even an error."""

from __future__ import annotations

import click

from flytectl.complete import complete_secret
from flytectl.confirm import DECLINED, can_ask, may_delete, scope_words, yes_option
from flytectl.options import as_json, no_core_dump, out, say, secret_scope


class _Discreet(click.Command):
    """A command whose usage errors do not repeat its arguments: one of them may be the value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, but replace the two errors that quote an argument."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption:
            text = "unknown option; for a value that begins with '-': create KEY -- VALUE"
            raise click.UsageError(text, ctx) from None
        except click.BadParameter:
            raise
        except click.UsageError as error:
            if "extra argument" in error.message:
                text = "too many arguments: give one KEY and at most one VALUE (quote a value with spaces)"
                raise click.UsageError(text, ctx) from None
            raise


@click.command(cls=_Discreet)
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--from-file", type=click.Path(readable=False), metavar="FILE", help="Read the value from FILE, byte for byte."
)
@click.option("--keep-newline", is_flag=True, help="With '-': keep the trailing newline.")
@click.option("--replace", is_flag=True, help="Replace an existing secret.")
@click.option("--roll", is_flag=True, help="With --replace: restart the apps that use it, one by one.")
@secret_scope
@as_json
def create(
    key: str, value: str | None, from_file: str | None, project: str, domain: str,
    *, keep_newline: bool, replace: bool, roll: bool, json_: bool,
) -> None:  # fmt: skip
    """Store a secret.

    The value is VALUE, the content of FILE (--from-file), or standard input if VALUE is '-' (one newline at its end is
    dropped). Without any of these, the command asks for it.
    """
    from flytectl import render
    from flytectl.daemon import call, show
    from flytectl.values import read_value
    from flyted.contract.answers.secrets import Stored

    no_core_dump()
    if value is not None and from_file is not None:
        raise click.UsageError("give either a VALUE or --from-file, not both")
    if roll and not replace:
        raise click.UsageError("--roll needs --replace")
    bulk = read_value(value, from_file, keep_newline=keep_newline)
    args = {"project": project, "domain": domain, "key": key, "replace": replace, "roll": roll}
    stored = call(Stored, "secret.create", args, bulk=bulk, on_event=show)
    if json_:
        out(render.to_json({**render.plain(stored.secret), "rolled": stored.rolled}))
        return
    out(f"secret '{render.safe(key)}' stored")
    if stored.rolled:
        out(f"restarted: {', '.join(render.safe(name) for name in stored.rolled)}")
    elif replace and not roll:
        say("note: an app keeps the old value until its next start; --roll restarts the apps that use it")


@click.command()
@secret_scope
@click.option("-A", "--all", "all_", is_flag=True, help="Include all projects and domains.")
@as_json
def ls(project: str, domain: str, *, all_: bool, json_: bool) -> None:
    """List secrets: keys and dates, never values."""
    _list(project, domain, all_=all_, json_=json_)


@click.command()
@click.argument("key", required=False, shell_complete=complete_secret)
@secret_scope
@as_json
def get(key: str | None, project: str, domain: str, *, json_: bool) -> None:
    """Show one secret, never its value.

    Without KEY, list all.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.secrets import SecretStatus

    if key is None:
        _list(project, domain, all_=False, json_=json_)
        return
    secret = call(SecretStatus, "secret.get", {"project": project, "domain": domain, "key": key})
    if json_:
        out(render.to_json(secret))
    else:
        out(render.secret_details(secret))


@click.command()
@click.argument("key", shell_complete=complete_secret)
@secret_scope
@as_json
@yes_option
def delete(key: str, project: str, domain: str, *, json_: bool, yes: bool) -> int:
    """Delete a secret. Running apps keep its value until they stop.

    On a terminal, show which apps use it and ask first.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flytectl.losses import of_secret
    from flyted.contract.answers.secrets import SecretStatus

    args = {"project": project, "domain": domain, "key": key}
    if not yes:
        from shlex import join

        lost = [of_secret(call(SecretStatus, "secret.get", args))] if can_ask() else []
        typed = join(["flytectl", "secret", "delete", "--yes", key, *scope_words(project, domain)])
        if not may_delete(lost, f"Delete secret {render.safe(key)}?", typed):
            return DECLINED
    deleted = call(SecretStatus, "secret.delete", args)
    if json_:
        out(render.to_json(deleted))
    else:
        out(f"secret '{render.safe(key)}' deleted")
    return 0


@click.command("accept-rollback")
@as_json
def accept_rollback(*, json_: bool) -> None:
    """Accept a restored backup of the secrets.

    Root only. Use it when flyted reports that the store is older than it should be.
    """
    from flytectl.daemon import call
    from flytectl.render import to_json
    from flyted.contract.answers.machine import Done

    call(Done, "secret.accept-rollback")
    out(to_json({"accepted": True}) if json_ else "the restored store is accepted")


@click.command()
@as_json
def rotate(*, json_: bool) -> None:
    """Encrypt all secrets to a new key.

    Root only. Restarts flyted, not the apps. All or nothing: keys that opened the old store do not open the new one.
    """
    from flytectl.daemon import call, restart
    from flytectl.render import to_json
    from flyted.contract.answers.secrets import StoreKey
    from flyted.contract.errors import HostFailure

    before = call(StoreKey, "secret.rotate").recipient
    restart()
    after = call(StoreKey, "secret.identity").recipient
    if after == before:
        raise HostFailure("neither the key nor any secret was changed", hint="journalctl -u flyted-rotate -n 20")
    said = f"every secret is encrypted to this machine's new key, {after}"
    out(to_json({"recipient": after}) if json_ else said)
    say("note: the old key still opens old copies of the store and backups; replace values that may have leaked")


def _list(project: str, domain: str, *, all_: bool, json_: bool) -> None:
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.secrets import SecretList

    secrets = call(SecretList, "secret.list", {"project": project, "domain": domain, "all": all_}).secrets
    if json_:
        out(render.to_json({"secrets": secrets}))
    elif secrets:
        out(render.secrets_table(secrets))
    else:
        say("no secrets; to store one: flytectl secret create KEY" + ("" if all_ else "; to list every scope: --all"))
