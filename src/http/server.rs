//! The listener: accepts, speaks TLS when configured, serves HTTP/1.1 and ends in order.

use std::{io, net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::{Config, Peer};

/// Requests that run when the server stops have this long.
const GRACE: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{address} is taken: another program listens there. Choose another with --listen or http.listen")]
    Busy { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("http.{key}: {why}")]
    Tls { key: &'static str, why: String },
}

/// A bound listener, not yet serving.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    deadlines: Deadlines,
}

/// How long a client may take.
#[derive(Clone, Copy)]
struct Deadlines {
    /// For its request's head; an idle connection is kept as long.
    head: Duration,
    tls: Duration,
}

/// A serving listener.
pub struct Serving {
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Server {
    pub async fn bind(config: &Config) -> Result<Self, ServerError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::Busy { address },
            _ => ServerError::Listen { address, source },
        })?;
        let connections = Arc::new(Semaphore::new(config.connections_max.max(1)));
        let seconds = Duration::from_secs;
        let deadlines = Deadlines { head: seconds(config.head_seconds), tls: seconds(config.tls_seconds) };
        Ok(Self { listener, tls: acceptor(config)?, connections, deadlines })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub fn serve(self, router: Router) -> Serving {
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(self.accept(router, stop.clone()));
        Serving { stop, accepting }
    }

    async fn accept(self, router: Router, stop: CancellationToken) {
        let open = TaskTracker::new();
        let Self { listener, tls, connections, deadlines } = self;
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else { break };
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors: what is open goes on, and the next try is a moment later.
                        warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = stop.cancelled() => break,
            };
            let _ = stream.set_nodelay(true);
            let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
            open.spawn(async move {
                match tls {
                    None => connection(stream, peer, router, stop, deadlines.head, permit).await,
                    Some(tls) => match tokio::time::timeout(deadlines.tls, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, peer, router, stop, deadlines.head, permit).await,
                        _ => debug!("a TLS handshake failed"),
                    },
                }
            });
        }
        drop(listener);
        open.close();
        open.wait().await;
    }
}

impl Serving {
    /// Accepts no more and lets running requests end.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.accepting.await;
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    head: Duration,
    _permit: OwnedSemaphorePermit,
) {
    let service = router.map_request(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.map(axum::body::Body::new)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(64 * 1024);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => Ok(ended),
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, served).await
        }
    };
    if let Ok(Err(error)) = ended {
        debug!(%error, "a connection ended early");
    }
}

fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, ServerError> {
    let (chain, key) = match (&config.tls_certificate, &config.tls_key) {
        (None, None) => return Ok(None),
        (Some(chain), Some(key)) => (certificates(chain)?, private_key(key)?),
        (None, _) => return Err(ServerError::Tls { key: "tls_certificate", why: "is missing beside tls_key".into() }),
        (_, None) => return Err(ServerError::Tls { key: "tls_key", why: "is missing beside tls_certificate".into() }),
    };
    let wrong = |e: rustls::Error| ServerError::Tls { key: "tls_certificate", why: e.to_string() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let wrong = |why: String| ServerError::Tls { key: "tls_certificate", why: format!("{}: {why}", path.display()) };
    let read = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| wrong(e.to_string()))?;
    if chain.is_empty() { Err(wrong("no certificate in it".into())) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ServerError> {
    let wrong =
        |e: rustls_pki_types::pem::Error| ServerError::Tls { key: "tls_key", why: format!("{}: {e}", path.display()) };
    PrivateKeyDer::from_pem_file(path).map_err(wrong)
}
