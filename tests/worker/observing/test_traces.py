import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from temporalio.contrib.opentelemetry import TracingInterceptor

from worker.observing.traces import traced
from worker.settings import LOOPBACK, Settings


class Collector(BaseHTTPRequestHandler):
    """Takes spans as a collector does."""

    received: ClassVar[list[tuple[str, ExportTraceServiceRequest]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    server = HTTPServer((LOOPBACK, 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{LOOPBACK}:{server.server_port}/v1/traces"
    server.shutdown()
    server.server_close()


def test_what_was_recorded_is_sent_before_the_worker_ends(collector: str) -> None:
    with traced(Settings(traces_endpoint=collector, pool="seen")) as traces:
        tracing = traces.interceptors[0]
        assert isinstance(tracing, TracingInterceptor)
        tracing.tracer.start_span("a step").end()

    (path, request), *_ = Collector.received
    (resource,) = request.resource_spans
    assert path == "/v1/traces"
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["corral.pool"] == "seen"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["a step"]


def test_without_an_endpoint_nothing_of_it_is_loaded() -> None:
    script = (
        "import json, sys; from worker.wiring import traced; from worker.settings import Settings\n"
        "with traced(Settings()) as traces:\n"
        "    loaded = [name for name in sys.modules if name.split('.')[0] == 'opentelemetry']\n"
        "    print(json.dumps([list(traces.interceptors), loaded]))"
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert json.loads(told) == [[], []]
