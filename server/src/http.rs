//! The HTTP endpoints: is the process up, does it serve, what are its numbers.
//!
//! What it guarantees: `/readyz` says 200 only while the given check passes; requests that are
//! under way when the server stops are answered.
//! What it does not: it shows nothing of the data, asks for no account, and speaks no TLS, which is
//! why the configuration keeps it on loopback.
//! On failure: a check that fails is `503` with fixed words; the reason is in the log.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::BoxFuture;
use kho_catalog::error::Result;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether the server serves right now.
pub type ReadyCheck = Arc<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A check that takes longer than this is a failed one.
const CHECK_TIMEOUT_MS: u64 = 2_000;

#[derive(Clone)]
struct Endpoints {
    ready: ReadyCheck,
    metrics: PrometheusHandle,
}

/// Answers on `listener` until `stop`.
pub async fn serve(
    listener: TcpListener,
    ready: ReadyCheck,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(Endpoints { ready, metrics });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn readyz(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let check = (endpoints.ready)();
    match tokio::time::timeout(Duration::from_millis(CHECK_TIMEOUT_MS), check).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n"),
        Ok(Err(error)) => {
            tracing::warn!(?error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
        Err(_) => {
            tracing::warn!("not ready: the check timed out");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }
}

async fn show_metrics(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    let format = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (format, endpoints.metrics.render())
}
