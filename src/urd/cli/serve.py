"""`urd serve`."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urd.cli.line_options import Keeping, line_options, served_model
from urd.cli.options import inspection_options, opening_options
from urd.cli.receivers import Receivers, receiver_options, sending

if TYPE_CHECKING:
    import socket

    from urd.serving.http.settings import Settings
    from urd.serving.http.tokens import Tokens
    from urd.serving.served_model import ServedModel

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RULE = "a name has 1 to 64 characters of A-Z a-z 0-9 . _ -"
_MODULES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]RUN...")
@line_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    help="File with a token per line: SCOPE TOKEN [NAME]. Needed for other machines.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name by which clients call this machine; may be given several times.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="Most images that the network judges together.",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Places for requests; if all are taken, the answer is 503.",
)
@click.option(
    "--deadline-ms",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="An answer that is later than this is an ERROR.  [default: no limit]",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(1024, 2**31),
    default=64 * 2**20,
    show_default="64 MiB",
    metavar="N",
    help="Largest image file, in bytes.",
)
@click.option(
    "--upload-seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="X",
    help="Longest time for the upload of an image.",
)
@inspection_options
@functools.partial(opening_options, roi=False)
@receiver_options
@click.option(
    "--verify",
    multiple=True,
    metavar="[NAME=]PARTS",
    help="Limit samples, in the folders good and bad: a model that judges one wrongly is not used, "
    "neither at the start nor after a reload. See urd verify.",
)
@click.option("--access-log", is_flag=True, help="Write a line for each request.")
def serve(
    runs: tuple[str, ...],
    host: str,
    port: int,
    keeping: Keeping,
    receivers: Receivers,
    **options: Any,
) -> None:
    """Judge images that come over HTTP, and store each judgement.

    RUN is a run folder, a model file or an exported file. Give several to serve several products.
    NAME is part of the address; without it, the name of the folder or file is used.

    \b
    curl --data-binary @part.png http://127.0.0.1:8000/v1/models/NAME/predict

    Without --tokens, only programs on this machine may ask. SIGTERM or Ctrl-C ends the server after
    the images that are in have their answer. Thresholds that a person sets are applied at once.
    GET /openapi.json describes all requests.
    """
    from urd.system import progress
    from urd.system.extras import optional

    for module in _MODULES:
        optional(module, "serve")
    from urd.serving.http.server import address_of, bind

    progress.show()
    named = _named(runs)
    tokens = _tokens(options["tokens"])
    with bind(host, port) as bound:
        _refuse_open(bound, host, tokens)
        hosts = _hosts(host, bound, options["hosts"])
        checks = _checks(options["verify"], list(named))
        models = _models(named, options)
        settings = _settings(tokens, hosts, checks, options)
        what = ", ".join(f"{model.name} ({model.engine})" for model in models)
        line = f"Listening at http://{address_of(bound)}, models {what}, store {keeping.store}"
        interrupted = _run(models, keeping, settings, bound, line, receivers, options)
    if interrupted:
        raise KeyboardInterrupt


def _named(runs: tuple[str, ...]) -> dict[str, Path]:
    """The path of each model by its name.

    Raises:
        UsageError: a name is wrong or is there twice.
    """
    from urd.errors import UsageError, quoted

    named: dict[str, Path] = {}
    for run in runs:
        name, equals, path = run.partition("=")
        if not equals or not _NAME.fullmatch(name):
            if equals and not Path(run).exists():
                raise UsageError(f"the name {quoted(name)} is wrong: {_RULE}")
            name, path = _stem(Path(run)), run
        if not _NAME.fullmatch(name):
            raise UsageError(f"{run} needs a name, as in NAME={run}: {_RULE}")
        if name in named:
            raise UsageError(f"two models have the name {name}: give NAME=RUN")
        named[name] = Path(path)
    return named


def _stem(path: Path) -> str:
    path = path.resolve()
    return path.name if path.is_dir() else path.stem


def _tokens(path: Path | None) -> Tokens | None:
    from urd.serving.http.tokens import Tokens, readable_by_others

    if path is None:
        return None
    tokens = Tokens.read(path)
    if readable_by_others(path):
        print(f"urd: other users can read {path}: chmod 600 {path}", file=sys.stderr, flush=True)
    return tokens


def _refuse_open(bound: socket.socket, host: str, tokens: Tokens | None) -> None:
    """Refuse to listen to other machines without tokens.

    Raises:
        UsageError: it would.
    """
    from urd.errors import UsageError
    from urd.serving.http.server import is_loopback

    if tokens is None and not is_loopback(bound):
        raise UsageError(
            f"--host {host} lets other machines ask: give --tokens FILE, with a line such as: "
            "predict TOKEN-OF-20-OR-MORE-CHARACTERS line-1"
        )


def _hosts(host: str, bound: socket.socket, more: tuple[str, ...]) -> frozenset[str]:
    """The names that are answered, as in the header Host without the port.

    Raises:
        UsageError: one is no name.
    """
    import ipaddress

    from urd.errors import UsageError, quoted
    from urd.serving.http.guard import host_name
    from urd.serving.http.settings import LOCAL_HOSTS

    names = set(LOCAL_HOSTS)
    for given in (host, *more):
        name = f"[{given}]" if given.count(":") > 1 and not given.startswith("[") else given
        if host_name(name) != name.lower() or not re.fullmatch(r"[\w.\-:\[\]%]+", name):
            raise UsageError(f"--allow-host {quoted(given)}: give a name without a port")
        names.add(name.lower())
    everywhere = ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_unspecified
    if everywhere and not more:
        print(
            "urd: clients on other machines need --allow-host NAME, the name or the address by "
            "which they call this machine",
            file=sys.stderr,
            flush=True,
        )
    return frozenset(names)


def _models(named: dict[str, Path], options: dict[str, Any]) -> list[ServedModel]:
    """Load all models and judge a drawn image with each.

    Raises:
        UsageError, UrdError: one cannot be loaded, has no thresholds, or does not work.
    """
    from urd.serving.http.trial import trial

    models = []
    for name, path in named.items():
        model = _load(name, path, options)
        trial(model)
        if short := model.thresholds.shortfall():
            print(f"urd: {name}: {short}", file=sys.stderr, flush=True)
        models.append(model)
    return models


def _load(name: str, path: Path, options: dict[str, Any]) -> ServedModel:
    return served_model(name, path, options["inspection"], options["opening"])


def _checks(given: tuple[str, ...], names: list[str]) -> dict[str, Path]:
    """The folder of limit samples of each model that has one.

    Raises:
        UsageError: there is no such model, or the folder proves nothing.
    """
    from urd.errors import UsageError, quoted
    from urd.serving.verify import limit_samples

    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals:
            if len(names) > 1:
                raise UsageError(f"--verify {quoted(text)}: say for which model, as NAME={text}")
            name, path = names[0], text
        if name not in names:
            raise UsageError(f"--verify: there is no model {quoted(name)}")
        found[name] = Path(path)
        limit_samples(found[name])
    return found


def _wrong(model: ServedModel, checks: dict[str, Path]) -> list[str]:
    """The limit samples that a model judges wrongly, in words."""
    from urd.serving.verify import limit_samples, verify

    if model.name not in checks:
        return []
    samples = limit_samples(checks[model.name])
    return [str(s) for s in verify(model.detector, samples, model.inspection) if s.wrong]


def _settings(
    tokens: Tokens | None,
    hosts: frozenset[str],
    checks: dict[str, Path],
    options: dict[str, Any],
) -> Settings:
    from urd.serving.http.settings import Settings

    limits = ("batch_size", "queue", "deadline_ms", "max_bytes", "upload_seconds")
    return Settings(
        **{name: options[name] for name in limits},
        tokens=tokens,
        hosts=hosts,
        load=lambda old: _load(old.name, old.path, options),
        check=lambda new: _wrong(new, checks),
    )


def _run(
    models: list[ServedModel],
    keeping: Keeping,
    settings: Settings,
    bound: socket.socket,
    line: str,
    receivers: Receivers,
    options: dict[str, Any],
) -> bool:
    """Serve until a signal; returns whether it was Ctrl-C."""
    from contextlib import closing

    from urd.errors import UrdError, some
    from urd.serving.http.app import create_app
    from urd.serving.http.line_store import LineStore
    from urd.serving.http.server import serve
    from urd.serving.service import Service

    with closing(LineStore(keeping.store)) as store:
        station = keeping.station(store, "serve")
        for model in models:
            station.refresh(model)
            if wrong := settings.check(model) if settings.check else []:
                raise UrdError(f"{model.name} judges limit samples wrongly: {some(wrong)}")
        service = Service(store, {model.name: model for model in models}, station)
        app = create_app(service, settings)
        with sending(receivers.deliveries(store, app.state.parts.line.idle_seconds)) as deliveries:
            station.receivers = deliveries.names
            station.not_stored = deliveries.not_stored
            service.receivers = deliveries.problems
            return serve(
                app, bound, lambda: print(line, flush=True), access_log=options["access_log"]
            )
