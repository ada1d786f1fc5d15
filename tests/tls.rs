//! The server with a certificate of its own: REST and sockets over TLS, frames sealed by the shard that sweeps them.

use std::{fs, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::support::{
    scratch::Scratch,
    server::{Plan, Server},
    wait::{DEADLINE, within},
    ws::SUBPROTOCOL,
};

struct Secured {
    server: Server,
    connector: TlsConnector,
    _folder: Scratch,
}

async fn secured() -> Secured {
    let folder = Scratch::new("tls");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let server = Plan::default()
        .set("HTTP__TLS_CERTIFICATE", folder.join("chain.pem").to_str().unwrap())
        .set("HTTP__TLS_KEY", folder.join("key.pem").to_str().unwrap())
        .start()
        .await;

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Secured { server, connector: TlsConnector::from(Arc::new(config)), _folder: folder }
}

impl Secured {
    async fn dial(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.server.http).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within("the TLS handshake", DEADLINE, self.connector.connect(name, stream)).await.unwrap()
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = within("the answer", DEADLINE, stream.read_to_end(&mut answer)).await;
        let head = String::from_utf8_lossy(&answer);
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("an answer, not {head:?}"))
    }
}

async fn hears(socket: &mut WebSocketStream<TlsStream<TcpStream>>, holds: impl Fn(&Value) -> bool) -> Value {
    let heard = async {
        loop {
            if let Message::Text(text) = socket.next().await.expect("the socket stays open").unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if holds(&message) {
                    return message;
                }
            }
        }
    };
    within("a message", DEADLINE, heard).await
}

#[tokio::test]
async fn a_show_over_tls() {
    let secured = secured().await;
    let admin = secured.server.tokens.admin();
    let room = json!({ "id": "tls", "title": "Sealed", "anchor": "lin" });
    assert_eq!(secured.call("POST", "/v1/rooms", &admin, &room).await, 201);

    let mut request = "wss://localhost/v1/rooms/tls/ws".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    let stream = secured.dial().await;
    let (mut socket, _) = within("the upgrade", DEADLINE, client_async(request, stream)).await.unwrap();
    let join = json!({ "id": 1, "join": { "token": secured.server.tokens.viewer("tls", "ava") } });
    socket.send(Message::text(join.to_string())).await.unwrap();
    hears(&mut socket, |m| m["re"] == 1 && m["ok"].is_object()).await;
    hears(&mut socket, |m| m["snapshot"]["room"] == "tls").await;

    // What the room tells is swept to the sealed socket, and commands come back over it.
    let start = json!({ "action": "start" });
    assert_eq!(secured.call("POST", "/v1/rooms/tls/show", &admin, &start).await, 200);
    let started = hears(&mut socket, |m| m["events"][0]["type"] == "show.started").await;
    assert!(started["prev"].as_u64() < started["seq"].as_u64());
    let long = "好".repeat(200);
    socket.send(Message::text(json!({ "id": 2, "comment": { "text": long } }).to_string())).await.unwrap();
    hears(&mut socket, |m| m["re"] == 2 && m["ok"]["event"]["text"] == long).await;
}
