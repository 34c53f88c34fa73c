//! What the server tells about itself: its log and its metrics.
//!
//! What it guarantees: the log goes to standard error, never to standard output, which belongs to
//! the `ready` line; metrics are kept once per process, however many servers run in it.
//! What it does not: it adds no data of users to either; whoever logs decides that.

use std::sync::OnceLock;

use kho_catalog::error::{Error, Kind, Result};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Sends the log of this process to standard error.
///
/// # Errors
/// `F0000` when the filter does not parse, or a log was set up before.
pub fn start_log(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| {
        let message = format!("log.filter \"{}\" does not parse", log.filter);
        Error::new(Kind::ConfigFile, message).with_source(error)
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| {
        Error::new(Kind::ConfigFile, "the log was started before").with_detail(error.to_string())
    })
}

/// The metrics of this process, in Prometheus' text form when rendered.
///
/// # Errors
/// `XX000` when something else in the process took the place of the recorder.
pub fn metrics() -> Result<PrometheusHandle> {
    static METRICS: OnceLock<std::result::Result<PrometheusHandle, String>> = OnceLock::new();
    let kept = METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
        metrics::describe_gauge!("kho_build_info", "Always 1; its label is the version.");
        metrics::gauge!("kho_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(handle)
    });
    kept.clone()
        .map_err(|reason| Error::internal("the metrics recorder is not ours").with_detail(reason))
}
