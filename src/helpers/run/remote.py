"""The copy of a run folder in S3, so that a run can be continued, analysed or cleaned up on another machine.

Work is done in the local folder. Its hidden file `.s3.json` names the copy and notes, for each file, what the two had in
common when they last met. From that follows who changed a file since:

    only the local one     it is uploaded, at the end of each notebook and of the series
    only the one in S3     it is fetched, when the run is opened
    both                   the local one stays and replaces the other at the next upload; of two ledgers, whose endpoints may
                           cost money, the records are merged

Nothing is deleted on either side. What belongs to one machine is not copied: hidden files, locks, links, what tells of its
processes. Objects are encrypted as the bucket's default says. boto3 is imported only where a run has a copy in S3.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from pydantic import BaseModel

from helpers.errors import RunFolderError
from helpers.number_text import plural
from helpers.run.aws_errors import code_of
from helpers.run.s3_errors import s3_errors_in_words
from helpers.run.whole_files import hidden_beside, lock_of, write_atomically

if TYPE_CHECKING:
    from botocore.client import BaseClient

SCHEME = "s3://"
MANIFEST = ".s3.json"
LEDGER = "endpoints.json"
NOT_SHARED = ("local_sagemaker", "guarded")
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 5, 30, 2
"""Short, because a deletion waits while the ledger is uploaded."""
LOCK_TIMEOUT_S = 60.0
PARALLEL_READS = 8
_URL = re.compile(r"s3://([^/\s]+)((?:/[^/\s]+)*)/?")
_RUN_ID = re.compile(r"[A-Za-z0-9][\w.\-]*")
_SAID: set[Path] = set()
MergeLedgers = Callable[[str, str], str]
"""From the local ledger and the one in S3, as JSON, to one with the endpoints of both."""


class _Common(BaseModel):
    """What a file and its copy had in common when they last met."""

    size: int
    mtime_ns: int
    md5: str
    etag: str
    """Of the object; it need not be an MD5."""


class _Manifest(BaseModel):
    schema_version: int = 1
    url: str
    region: str | None
    files: dict[str, _Common] = {}


@dataclass(frozen=True)
class RemoteRun:
    """A run folder and its copy in S3. What S3 refuses raises RunFolderError, with the next step."""

    path: Path
    url: str
    """s3://bucket/prefix/<run id>"""
    region: str | None
    """None: that of the AWS configuration."""

    def connect(self) -> None:
        """Note in the local folder where its copy is. Nothing is copied, and S3 is not called."""
        self._note({})

    def exists(self) -> bool:
        """True if a run was started there."""
        with s3_errors_in_words(self.url):
            return "run.json" in self._objects(beginning="run.json")

    def fetch(self, merge_ledgers: MergeLedgers, folders: Collection[str] | None = None) -> None:
        """Bring here what only S3 has or has changed. `folders`: only files directly in these; "" is the run folder."""
        with s3_errors_in_words(self.url):
            objects, common = self._objects(), self._manifest().files
            for name in sorted(objects, key=lambda name: (name != LEDGER, name)):
                met = common.get(name)
                changed_there = met is None or met.etag != objects[name] or not (self.path / name).is_file()
                if changed_there and (folders is None or name.rpartition("/")[0] in folders):
                    self._fetch_file(name, objects[name], met, merge_ledgers)

    def upload(self) -> list[str]:
        """Bring to S3 what changed here since they last met; returns the names."""
        common, uploaded = self._manifest().files, []
        for name in _shared_files(self.path):
            try:
                if _is_changed(self.path / name, common.get(name)):
                    self.upload_file(name)
                    uploaded.append(name)
            except FileNotFoundError:
                continue  # it was there for a moment
        return uploaded

    def upload_file(self, name: str) -> None:
        """Bring one file to S3, changed or not. One at a time: of two contents the last is the last to arrive."""
        path, where = self.path / name, {"Bucket": self._bucket, "Key": self._key(name)}
        with s3_errors_in_words(self.url), self._lock():
            fingerprint = _fingerprint(path)
            self._client.upload_file(str(path), *where.values())
            self._note_locked({name: _Common(**fingerprint, etag=self._client.head_object(**where)["ETag"])})

    def _fetch_file(self, name: str, etag: str, met: _Common | None, merge_ledgers: MergeLedgers) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = hidden_beside(path.with_name(f"{path.name}.s3"))
        try:
            self._client.download_file(self._bucket, self._key(name), str(incoming))
            common = _Common(**_fingerprint(incoming), etag=etag)
            with lock_of(path) if name == LEDGER else nullcontext():
                if not path.is_file() or not _is_changed(path, met):
                    incoming.replace(path)
                elif name == LEDGER:
                    write_atomically(path, merge_ledgers(path.read_text("utf-8"), incoming.read_text("utf-8")))
            self._note({name: common})
        finally:
            incoming.unlink(missing_ok=True)

    # --- the manifest ---------------------------------------------------------------------------------------------

    def _manifest(self) -> _Manifest:
        found = _read_manifest(self.path)
        return found if found and found.url == self.url else _Manifest(url=self.url, region=self.region)

    def _note(self, files: dict[str, _Common]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._note_locked(files)

    def _note_locked(self, files: dict[str, _Common]) -> None:
        manifest = self._manifest()
        manifest.files.update(files)
        write_atomically(self.path / MANIFEST, manifest.model_dump_json(indent=1) + "\n")

    def _lock(self) -> FileLock:
        return FileLock(self.path / ".s3.lock", timeout=LOCK_TIMEOUT_S)

    # --- S3 -------------------------------------------------------------------------------------------------------

    def _objects(self, beginning: str = "") -> dict[str, str]:
        """Name -> ETag of the files of the run in S3 whose names start with `beginning`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._key(beginning))
        items = [item for page in pages for item in page.get("Contents", [])]
        names = {item["Key"].removeprefix(self._key("")): item["ETag"] for item in items}
        return {name: etag for name, etag in names.items() if _is_shared(name)}

    def _key(self, name: str) -> str:
        return f"{split_url(self.url)[1]}/{name}"

    @property
    def _bucket(self) -> str:
        return split_url(self.url)[0]

    @cached_property
    def _client(self) -> BaseClient:
        return _s3_client(self.region)


# --- finding the copy ---------------------------------------------------------------------------------------------


def is_remote(location: str | None) -> bool:
    """True for a location in S3."""
    return (location or "").startswith(SCHEME)


def split_url(url: str) -> tuple[str, str]:
    """The bucket and the prefix of an S3 URL, without slashes around it. Raises RunFolderError for what is none."""
    match = _URL.fullmatch(url)
    if match is None:
        raise RunFolderError(f"run_root or run_dir: bad value {url!r}. Expected s3://bucket/prefix")
    return match[1], match[2].removeprefix("/")


def run_url(root_url: str, run_id: str) -> str:
    """Where the run of an id is under a `run_root`."""
    bucket, prefix = split_url(root_url)
    return f"{SCHEME}{bucket}/{f'{prefix}/' if prefix else ''}{run_id}"


def run_id_of(url: str) -> str:
    """The run id at the end of the URL of a run. Raises RunFolderError where there is none."""
    run_id = split_url(url)[1].rpartition("/")[2]
    if not _RUN_ID.fullmatch(run_id):
        raise RunFolderError(f"{url}: bad value. Expected a run in S3: s3://bucket/prefix/<run id>")
    return run_id


def remote_of(path: Path) -> RemoteRun | None:
    """The copy in S3 that a local run folder has; None where it has none."""
    manifest = _read_manifest(path)
    return RemoteRun(path, manifest.url, manifest.region) if manifest else None


def run_urls(root_url: str, config_name: str, region: str | None) -> list[tuple[str, str]]:
    """When each run of a config under a `run_root` in S3 started ("" if its run.json does not say), and its URL; in order."""
    bucket, _ = split_url(root_url)
    with s3_errors_in_words(root_url):
        client = _s3_client(region)
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=split_url(run_url(root_url, f"{config_name}-"))[1], Delimiter="/"
        )
        folders = [folder["Prefix"] for page in pages for folder in page.get("CommonPrefixes", [])]
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            begun = list(pool.map(lambda folder: _read_about(client, bucket, folder, config_name), folders))
    return sorted(
        (str(about.get("started_at", "")), f"{SCHEME}{bucket}/{folder.rstrip('/')}")
        for about, folder in zip(begun, folders, strict=True)
        if about is not None
    )


def _read_about(client: BaseClient, bucket: str, folder: str, config_name: str) -> dict | None:
    """The run.json of a run, empty if it is damaged; None if there is none, or for another config."""
    from botocore.exceptions import ClientError

    try:
        about = json.loads(client.get_object(Bucket=bucket, Key=f"{folder}run.json")["Body"].read())
    except ClientError as error:
        if code_of(error) == "NoSuchKey":
            return None
        raise
    except ValueError:
        return {}
    return about if about.get("config_name") == config_name else None


# --- at the end of a step, and in passing -------------------------------------------------------------------------


def store_run(path: Path) -> str:
    """Upload what changed in a run folder; returns a sentence that says where it is, "" where it has no copy in S3."""
    remote = remote_of(path)
    if remote is None:
        return ""
    try:
        uploaded = remote.upload()
    except RunFolderError as error:
        raise RunFolderError(
            f"not everything is in S3: {error}. All of it is in {path}; the next notebook that runs on this folder tries again"
        ) from error
    return f"Stored in {remote.url} ({plural(len(uploaded), 'file')} uploaded)."


def upload_in_passing(path: Path) -> None:
    """Upload one file of a run folder where the run has a copy in S3. Never raises; a failure is printed once."""
    try:
        remote = remote_of(path.parent)
        if remote is not None:
            remote.upload_file(path.name)
    except Exception as error:  # noqa: BLE001 - what is under way, a deletion or a load, must continue
        say_once(path, f"{path.name} could not be uploaded; the one in {path.parent} is right. {error}")


def say_once(about: Path, text: str) -> None:
    """Write a line to stderr, the first of this process about a file or folder."""
    if about not in _SAID:
        _SAID.add(about)
        sys.stderr.write(f"{text}\n")


# --- files --------------------------------------------------------------------------------------------------------


def _read_manifest(path: Path) -> _Manifest | None:
    """What a run folder notes of its copy; None where it has none, or was copied or renamed itself."""
    file = path / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = _Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{file}: cannot be read ({error}). Next: delete it and open the run again") from None
    return manifest if run_id_of(manifest.url) == path.name else None


def _shared_files(path: Path) -> list[str]:
    """Names of the files of a run folder that its copy has too."""
    names = []
    for folder, _, files in os.walk(path):  # follows no links
        inside = Path(folder).relative_to(path)
        names += [(inside / file).as_posix() for file in files if not (Path(folder) / file).is_symlink()]
    return sorted(name for name in names if _is_shared(name))


def _is_shared(name: str) -> bool:
    """False for what belongs to one machine, and for names that would lead out of the run folder."""
    parts = name.split("/")
    hidden = any(not part or part.startswith(".") or "\\" in part for part in parts)
    return not hidden and parts[0] not in NOT_SHARED and not name.endswith(".lock")


def _is_changed(path: Path, met: _Common | None) -> bool:
    """True if a file is not what it and its copy had in common. Only one with another size or time is read."""
    if met is None:
        return True
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) == (met.size, met.mtime_ns):
        return False
    return _fingerprint(path)["md5"] != met.md5


def _fingerprint(path: Path) -> dict[str, int | str]:
    """Size, time and content, so that a change while it is read shows in the next comparison."""
    stat = path.stat()
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "md5": md5}


def _s3_client(region: str | None) -> BaseClient:
    from botocore.config import Config

    from helpers.run.sessions import session_of_profile

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
    )
    return session_of_profile(None, None, region).client("s3", config=config)
