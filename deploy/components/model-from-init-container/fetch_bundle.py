"""Downloads a bundle, checks that it is whole and the one asked for, and puts it in its place; an init container.

BUNDLE_URL: a tar, packed or not, with manifest.json at its top. BUNDLE_ID: the bundle id that it must have.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import tarfile
import urllib.request
from pathlib import Path

from bertserve.bundle import BundleError, read_bundle

TIMEOUT_SECONDS = 60


def main() -> int:
    target = Path(sys.argv[1])
    try:
        url, bundle_id = os.environ["BUNDLE_URL"], os.environ["BUNDLE_ID"]
    except KeyError as error:
        sys.stderr.write(f"{error.args[0]} is not set\n")
        return 1
    try:
        fetch(url, bundle_id, target)
    # ValueError: an address that is none.
    except (OSError, tarfile.TarError, BundleError, http.client.HTTPException, ValueError) as error:
        sys.stderr.write(f"{without_secrets(f'{url}: {error}', url)}\n")
        return 1
    return 0


def without_secrets(text: str, url: str) -> str:
    """One line for the log, without the query of an address, which stores sign, and without a password in it."""
    user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    for secret in (url.partition("?")[2], user, user.partition(":")[2]):
        text = text.replace(secret, "…") if secret else text
    return " ".join(text.split())


def fetch(url: str, bundle_id: str, target: Path) -> None:
    """Leave the bundle at target, or nothing. Raises BundleError for a damaged bundle and for another one."""
    if is_there(bundle_id, target):
        return
    partial = target.with_name(f"{target.name}.partial")
    # What an earlier start of this container left.
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    unpack(url, partial)
    found = read_bundle(partial).manifest.bundle_id
    if found != bundle_id:
        raise BundleError(
            f"holds bundle {found}, not {bundle_id}: set BUNDLE_ID to it, or BUNDLE_URL to the other's tar"
        )
    partial.rename(target)


def is_there(bundle_id: str, target: Path) -> bool:
    """Whole, from an earlier start of this pod: after its node's, say, when the store may not be back yet."""
    try:
        return read_bundle(target).manifest.bundle_id == bundle_id
    except BundleError:
        return False


def unpack(url: str, directory: Path) -> None:
    """Unpack while downloading: the tar needs no room of its own. Raises BundleError for all but plain files."""
    directory.mkdir(parents=True)
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response,  # noqa: S310 (an operator names it)
        tarfile.open(fileobj=response, mode="r|*") as tar,
    ):
        for member in tar:
            if member.isdir() and member.name == ".":
                continue
            path = directory / member.name
            content = tar.extractfile(member) if is_plain(member) and not path.exists() else None
            if content is None:
                raise BundleError(
                    f"the tar holds {member.name!r}, and a bundle is plain files at the tar's top, each once; "
                    "make it anew: tar -czf my-bert.tar.gz -C bundles/my-bert ."
                )
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)


def is_plain(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file right in the folder, and neither a link nor a device.

    Python has tarfile's own filters from 3.11.4 on only.
    """
    name = member.name.removeprefix("./")
    return member.isreg() and name not in {"", ".", ".."} and not set(name) & set("/\\\0")


if __name__ == "__main__":
    sys.exit(main())
