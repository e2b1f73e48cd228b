"""The runtime of Temporal's SDK: its log is written with ours, and its metrics can be read by Prometheus."""

import logging

from temporalio.runtime import LogForwardingConfig, LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig, TelemetryFilter

from worker.settings import variable
from worker.supervision import CannotStart

ONLY_TROUBLE = TelemetryFilter(core_level="WARN", other_level="ERROR")


def observed_runtime(metrics_address: str | None = None) -> Runtime:
    """A runtime whose log goes to the logger `temporalio.core`; with an address, Prometheus finds its metrics there.

    Raises:
        CannotStart: the address cannot be listened on.
    """
    forwarding = LogForwardingConfig(logging.getLogger("temporalio.core"), append_target_to_name=False)
    metrics = None
    if metrics_address is not None:
        metrics = PrometheusConfig(metrics_address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True)
    telemetry = TelemetryConfig(logging=LoggingConfig(ONLY_TROUBLE, forwarding), metrics=metrics)
    try:
        return Runtime(telemetry=telemetry)
    except (RuntimeError, ValueError) as error:
        name = variable("temporal_metrics_address")
        raise CannotStart(f"{name}: cannot listen on {metrics_address}: {error}; free it, or set another") from error
