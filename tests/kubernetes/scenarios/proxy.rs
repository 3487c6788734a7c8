//! What stands between the operator and the API server, and passes on what it is asked.

use super::stage::Stage;
use crate::up::client;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use http::header;
use http::request::Parts;
use http::response;
use kube::Client;
use tokio::net::TcpListener;

/// Bytes of a request or an answer, at most.
const BYTES_MAX: usize = 16 << 20;

/// Does something while the operator's way is through what answers by `routes`; afterwards it has
/// its own again.
pub(super) async fn between<T>(
    stage: &Stage,
    routes: Router,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
    let server = listener.local_addr().map_err(|e| e.to_string())?;
    let serves = tokio::spawn(async move { axum::serve(listener, routes).await });
    let ran = match stage.through(Some(&format!("http://{server}"))).await {
        Ok(()) => work.await,
        Err(why) => Err(why),
    };
    let back = stage.through(None).await;
    serves.abort();
    let ran = ran?;
    back?;
    Ok(ran)
}

/// The way to the API server, with the operator's rights.
pub(super) async fn way(stage: &Stage) -> Result<Client, String> {
    client(&stage.instance, "operator").await
}

/// What was asked, and all of its body.
pub(super) async fn whole(request: Request) -> Result<(Parts, Bytes), String> {
    let (parts, body) = request.into_parts();
    Ok((parts, bytes(body).await?))
}

/// All of a body.
pub(super) async fn bytes(body: Body) -> Result<Bytes, String> {
    to_bytes(body, BYTES_MAX).await.map_err(|e| e.to_string())
}

/// Asks the API server the same.
pub(super) async fn forward(
    client: &Client,
    parts: &Parts,
    body: Bytes,
) -> Result<(response::Parts, Body), String> {
    let mut on = http::Request::builder().method(&parts.method).uri(parts.uri.to_string());
    for name in [header::ACCEPT, header::CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            on = on.header(name, value);
        }
    }
    let on = on.body(kube::client::Body::from(body)).map_err(|e| e.to_string())?;
    let answer = client.send(on).await.map_err(|e| e.to_string())?;
    let (parts, body) = answer.into_parts();
    Ok((parts, Body::new(body)))
}
