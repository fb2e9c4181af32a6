"""The sandbox's command line: `python -m analytics_dagster.sandbox --port 8080` serves until SIGINT or SIGTERM.

The first line on standard output is the URL; it is printed once the URL answers. Several projects, each with a key made
from its name:

    $ python -m analytics_dagster.sandbox --project web=1010 --project mobile=1011
    http://127.0.0.1:41273
    web: sandbox-secret-web-key
    mobile: sandbox-secret-mobile-key
"""

import argparse
import signal
from threading import Event

from analytics_dagster.sandbox.embedded import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster.sandbox.project import SandboxProject


def _path(text: str) -> tuple[str, str]:
    resource, separator, path = text.partition("=")
    if not separator or not path.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} must have the form resource=/path")
    return resource, path


def _project(text: str) -> SandboxProject:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must have the form name=id")
    try:
        return SandboxProject(name=name, id=int(number))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m analytics_dagster.sandbox", description="Serve the sandbox.")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--history-days", type=int, default=21)
    parser.add_argument("--header", default="api_key", help="the header that carries the key")
    parser.add_argument("--project-key", default=PROJECT_KEY)
    parser.add_argument(
        "--project", type=_project, action="append", default=[], metavar="NAME=ID", help="instead of the default one"
    )
    parser.add_argument("--account-key", default=ACCOUNT_KEY)
    parser.add_argument("--rate-limit", type=int, default=5_000, help="calls per key and minute")
    parser.add_argument("--path", type=_path, action="append", default=[], metavar="RESOURCE=/PATH")
    return parser.parse_args()


def main() -> None:
    """Serve the sandbox until SIGINT or SIGTERM."""
    arguments = _arguments()
    stopped = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Sandbox(
        projects=arguments.project,
        seed=arguments.seed,
        port=arguments.port,
        history_days=arguments.history_days,
        header=arguments.header,
        project_key=arguments.project_key,
        account_key=arguments.account_key,
        paths=dict(arguments.path),
        rate_limit=arguments.rate_limit,
    ) as sandbox:
        print(sandbox.url, flush=True)  # noqa: T201 (the caller reads it)
        for project in arguments.project:
            print(f"{project.name}: {project.key}", flush=True)  # noqa: T201 (made up, and needed to read the project)
        stopped.wait()


if __name__ == "__main__":
    main()
