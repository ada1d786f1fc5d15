//! The HTTP of a rival: a POST is an offer, its answer comes in the body.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header::HeaderValue, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves for ever; every offer is given to `answer`.
pub async fn serve<A>(address: SocketAddr, answer: A) -> anyhow::Result<()>
where
    A: AsyncFn(String) -> anyhow::Result<String> + Clone + 'static,
{
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let answer = answer.clone();
        let service = service_fn(move |request| respond(request, answer.clone()));
        let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(serving);
    }
}

async fn respond<A>(request: Request<Incoming>, answer: A) -> Result<Response<Full<Bytes>>, Infallible>
where
    A: AsyncFn(String) -> anyhow::Result<String>,
{
    let answering = async {
        let offer = request.into_body().collect().await?.to_bytes();
        answer(String::from_utf8(offer.to_vec())?).await
    };
    let (status, body) = match answering.await {
        Ok(answer) => (StatusCode::CREATED, answer),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("location", HeaderValue::from_static("/whep/hall/1"));
    Ok(response)
}
