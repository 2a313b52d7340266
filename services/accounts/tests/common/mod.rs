//! Certificates and a client for the tests.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const GATEWAY: &str = "spiffe://bank.test/gateway";

/// An authority and what it signs.
pub(crate) struct Authority {
    pub(crate) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) struct Leaf {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) der: CertificateDer<'static>,
}

impl Leaf {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        use rustls::pki_types::pem::PemObject;
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("key")
    }
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("sign");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Authority { pem, der, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn leaf(&self, uris: &[&str]) -> Leaf {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().expect("uri")));
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("sign");
        Leaf {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("root");
        roots
    }

    /// A TLS connection as the holder of `leaf`, or as nobody.
    pub(crate) async fn connect(
        &self,
        port: u16,
        leaf: Option<&Leaf>,
        alpn: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(self.roots());
        let mut config = match leaf {
            Some(leaf) => {
                builder.with_client_auth_cert(vec![leaf.der.clone()], leaf.key()).expect("client")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("localhost").expect("name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// An HTTP/1.1 client.
    pub(crate) async fn http1(&self, port: u16, leaf: &Leaf) -> http1::SendRequest<Full<Bytes>> {
        let stream = self.connect(port, Some(leaf), "http/1.1").await.expect("connect");
        let (client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("http1");
        tokio::spawn(connection);
        client
    }

    /// An HTTP/2 client for gRPC.
    pub(crate) async fn grpc(&self, port: u16, leaf: &Leaf) -> Grpc {
        let stream = self.connect(port, Some(leaf), "h2").await.expect("connect");
        let (client, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("http2");
        tokio::spawn(connection);
        Grpc(client)
    }
}

/// What the generated client sends its requests through.
#[derive(Clone)]
pub(crate) struct Grpc(http2::SendRequest<tonic::body::Body>);

impl tonic::codegen::Service<Request<tonic::body::Body>> for Grpc {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("https://localhost{path}").parse().expect("uri");
        Box::pin(self.0.send_request(request))
    }
}

/// Status and JSON body of one request.
pub(crate) async fn call(
    client: &mut http1::SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, serde_json::Value) {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("request");
    client.ready().await.expect("ready");
    let response = client.send_request(request).await.expect("answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null))
}
