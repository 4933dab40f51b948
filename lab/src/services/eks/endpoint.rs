//! The server behind a cluster's endpoint: TLS by an authority of the cluster's own, who asks by the token, and whether they may.
//!
//! As on EKS: no token that is good for this cluster, or no access entry for who signed it, is `Unauthorized`; what neither an
//! access policy nor the cluster's RBAC allows is `Forbidden`. Every request is noted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;

use super::objects::{Answer, Asked, status};
use super::{Cluster, Seen, allows, locked};
use crate::service::Aws;

const HOST: &str = "127.0.0.1";
const LARGEST_BODY: usize = 1 << 20;
/// For how long a client may take to agree on TLS: others wait behind it.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Connections that have agreed on TLS.
pub(super) struct Listener {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            match tokio::time::timeout(HANDSHAKE, self.tls.accept(stream)).await {
                Ok(Ok(stream)) => return (stream, address),
                // A client that does not trust the authority ends it here.
                Ok(Err(error)) => tracing::debug!(%error, "no TLS with a client of a cluster"),
                Err(_) => tracing::debug!("a client of a cluster was silent"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.address()
    }
}

/// A port with a certificate, and the authority that vouches for it: PEM, in base64.
pub(super) async fn listen() -> io::Result<(Listener, String)> {
    let (config, authority) = certified().map_err(io::Error::other)?;
    let listener = TcpListener::bind((HOST, 0)).await?;
    Ok((Listener { listener, tls: TlsAcceptor::from(Arc::new(config)) }, authority))
}

fn certified() -> Result<(ServerConfig, String), Box<dyn std::error::Error + Send + Sync>> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.distinguished_name.push(DnType::CommonName, "kubernetes");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let vouched = authority.self_signed(&authority_key)?;
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(vouched.der()));

    let key = KeyPair::generate()?;
    let mut own = CertificateParams::new(vec![HOST.to_owned(), "localhost".to_owned()])?;
    own.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let certificate = own.signed_by(&key, &Issuer::new(authority, authority_key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    Ok((config, BASE64.encode(pem)))
}

/// Serves a cluster until the task is ended.
pub(super) async fn serve(listener: Listener, cluster: Arc<Cluster>, aws: Arc<dyn Aws>) {
    let router = Router::new().fallback(answer).with_state((cluster, aws));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the API of a cluster ended");
    }
}

async fn answer(State((cluster, aws)): State<(Arc<Cluster>, Arc<dyn Aws>)>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let (code, object) = match to_bytes(body, LARGEST_BODY).await {
        Ok(body) => {
            let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
            answered(&cluster, aws.as_ref(), (parts.method.as_str(), path, query), &parts.headers, &body).await
        }
        Err(_) => status(413, "RequestEntityTooLarge", "the lab takes no body of more than a mebibyte"),
    };
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, axum::Json(object)).into_response()
}

async fn answered(
    cluster: &Cluster,
    aws: &dyn Aws,
    (method, path, query): (&str, &str, &str),
    headers: &HeaderMap,
    body: &Bytes,
) -> Answer {
    let (at, arrived) = (Timestamp::now(), Instant::now());
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(asked) = Asked::of(method, path) else {
        return status(404, "NotFound", "the lab's clusters serve nothing there");
    };
    let user = match text(header::AUTHORIZATION).strip_prefix("Bearer ") {
        Some(token) => match aws.token_signer(token, &cluster.name).await {
            Ok(caller) => locked(&cluster.access).user(&caller),
            Err(_) => None,
        },
        None => None,
    };
    let wanted = asked.wanted();
    let (name, answer) = match user {
        None => (String::new(), status(401, "Unauthorized", "Unauthorized")),
        Some(user) => {
            let mut objects = locked(&cluster.objects);
            let answer = if allows(&objects, &user, &asked) {
                objects.answer(&asked, query, text(header::CONTENT_TYPE), body)
            } else {
                asked.forbidden(&user.name)
            };
            (user.name, answer)
        }
    };
    locked(&cluster.seen).push(Seen {
        at,
        micros: u64::try_from(arrived.elapsed().as_micros()).unwrap_or(u64::MAX),
        user: name,
        verb: wanted.verb,
        group: wanted.group,
        resource: wanted.resource,
        status: answer.0,
    });
    answer
}
