//! The endpoints over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use kho_catalog::error::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{ReadyCheck, serve};

async fn request(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: kho\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (serving, seen) = watch::channel(false);
    let ready: ReadyCheck = Arc::new(move || {
        let serves = *seen.borrow();
        async move { if serves { Ok(()) } else { Err(Error::internal("secret")) } }.boxed()
    });
    let stop = CancellationToken::new();
    let metrics = crate::observe::metrics().unwrap();
    let served = tokio::spawn(serve(listener, ready, metrics, stop.clone()));

    assert!(request(address, "GET", "/healthz").await.starts_with("HTTP/1.1 200"));
    let refused = request(address, "GET", "/readyz").await;
    assert!(refused.starts_with("HTTP/1.1 503") && !refused.contains("secret"), "{refused}");
    serving.send(true).unwrap();
    assert!(request(address, "GET", "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = request(address, "GET", "/metrics").await;
    assert!(metrics.contains("kho_build_info{version="), "{metrics}");
    assert!(request(address, "GET", "/nothing").await.starts_with("HTTP/1.1 404"));
    assert!(request(address, "POST", "/healthz").await.starts_with("HTTP/1.1 405"));

    stop.cancel();
    served.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
