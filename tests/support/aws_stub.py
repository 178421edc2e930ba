"""The AWS Price List and Service Quotas on loopback, as far as the tests need them.

Both speak the JSON 1.1 protocol. Shapes of the answers:
https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html
https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_ListServiceQuotas.html
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
SERVICES = ("PRICING", "SERVICE_QUOTAS")
PAGE = 2
"""Items to a page, so that a list of three needs a second one."""


def product(instance_type: str, usd: str | None, unit: str = "Hrs", **changes: str) -> dict[str, Any]:
    """A hosting product of the Price List in us-east-1; `changes` replace attributes."""
    attributes = {
        "regionCode": "us-east-1",
        "servicecode": "AmazonSageMaker",
        "component": "Hosting",
        "instanceName": instance_type,
        "instanceType": f"{instance_type}-Hosting",
        "usagetype": f"USE1-Host:{instance_type}",
        **changes,
    }
    dimension = {"unit": unit, "beginRange": "0", "endRange": "Inf", "appliesTo": []}
    dimension["pricePerUnit"] = {} if usd is None else {"USD": usd}
    terms = {"OnDemand": {"SKU.JRTCKXETXF": {"priceDimensions": {"SKU.JRTCKXETXF.6YS6EN2CT7": dimension}}}}
    return {
        "product": {"productFamily": "ML Instance", "attributes": attributes, "sku": "SKU"},
        "serviceCode": "AmazonSageMaker",
        "terms": terms,
    }


@dataclass
class AwsStub:
    """What the stub answers, and what it was asked."""

    url: str = ""
    products: list[dict[str, Any]] = field(default_factory=list)
    quotas: dict[str, float] = field(default_factory=dict)
    """As they hold for the account."""
    default_quotas: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    """Operation -> code of the error that it answers with."""
    asked: Counter[str] = field(default_factory=Counter)
    release: threading.Event = field(default_factory=threading.Event)
    """Until it is set, operations whose error is `hangs` do not answer."""

    def answer(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """One page of what is asked for."""
        if operation == "GetProducts":
            wanted = {f["Field"]: f["Value"] for f in parameters["Filters"]}
            items: list[Any] = [
                json.dumps(one)
                for one in self.products
                if wanted.items() <= one["product"]["attributes"].items()
                and parameters["ServiceCode"] == one["serviceCode"]
            ]
            return self._page("PriceList", items, parameters) | {"FormatVersion": "aws_v1"}
        known = self.quotas if operation == "ListServiceQuotas" else self.default_quotas
        items = [
            {"ServiceCode": parameters["ServiceCode"], "QuotaName": name, "Value": value, "Adjustable": True}
            for name, value in known.items()
        ]
        return self._page("Quotas", items, parameters)

    @staticmethod
    def _page(key: str, items: list[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        start = int(parameters.get("NextToken", 0))
        more = {"NextToken": str(start + PAGE)} if start + PAGE < len(items) else {}
        return {key: items[start : start + PAGE], **more}


@contextmanager
def aws_on_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsStub]:
    """The stub; boto3 finds it by the standard variables, with dummy credentials. Home is a folder of the test."""
    stub = AwsStub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.asked[operation] += 1
            code = stub.errors.get(operation)
            if code == "hangs":
                stub.release.wait(30)
                return
            content = stub.answer(operation, parameters) if code is None else {"__type": code, "message": "no"}
            body = json.dumps(content).encode()
            self.send_response(200 if code is None else 400)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    empty_home(tmp_path, monkeypatch)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for service in SERVICES:
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", stub.url)
    try:
        yield stub
    finally:
        stub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with no AWS settings, no credentials, nothing kept on disk."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def refusing(code: str, status: int = 400) -> Iterator[str]:
    """The URL of an AWS that refuses whatever it is asked, in each of its protocols."""
    body = json.dumps({"__type": code, "message": "because"}).encode()
    query = f"<ErrorResponse><Error><Code>{code}</Code><Message>because</Message></Error></ErrorResponse>".encode()

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = query if "urlencoded" in self.headers["Content-Type"] else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
