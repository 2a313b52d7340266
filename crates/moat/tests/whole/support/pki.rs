//! Certificates of a small bank.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use moat_ca::{
    Authority, Identity, LeafRequest, Level, Question, Reason, Register, Revocation, Window,
};
use moat_tls::Stack;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// An authority and what it issues.
pub(crate) struct Pki {
    authority: Authority,
    stack: Stack,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        Pki::named("Test")
    }

    pub(crate) fn named(name: &str) -> Pki {
        let authority = Authority::create(name, now_s()).unwrap();
        Pki { authority, stack: Stack::International }
    }

    /// The national authority of the same bank.
    pub(crate) fn sm2() -> Pki {
        let authority = Authority::create_sm2("Test", now_s()).unwrap();
        Pki { authority, stack: Stack::National }
    }

    /// The authority's folder, as `moat ca init` makes it.
    pub(crate) fn save(&self, dir: &Path) {
        moat_ca::save(&self.authority, dir).unwrap();
    }

    pub(crate) fn issuing_pem(&self) -> String {
        self.authority.issuing_pem().to_owned()
    }

    pub(crate) fn trust_pem(&self) -> &str {
        self.authority.trust_pem()
    }

    /// A certificate for one caller or service of bank.test.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.issue(&[&format!("spiffe://bank.test/{name}")], 0, 86_400)
    }

    /// A certificate with any names and any validity.
    pub(crate) fn issue(&self, uris: &[&str], from_s: i64, valid_s: i64) -> Identity {
        let mut request = LeafRequest::spiffe("spiffe://bank.test/x", now_s() + from_s);
        request.uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        request.common_name = "someone".to_owned();
        request.names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        request.valid_s = valid_s;
        self.authority.issue(&request).unwrap()
    }

    pub(crate) fn write(&self, dir: &Path, name: &str) {
        moat_ca::write_identity(&self.identity(name), dir, name).unwrap();
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trust_pem().as_bytes()).unwrap()).unwrap();
        roots
    }

    /// TLS of a caller, or of nobody.
    pub(crate) fn client(&self, identity: Option<&Identity>, alpn: &str) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(self.stack.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_auth_cert(chain(identity), key(identity)).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    /// TLS of a service that asks for the gateway's certificate.
    pub(crate) fn server(&self, identity: &Identity, alpn: &[&str]) -> Arc<ServerConfig> {
        Arc::new(self.server_with(identity, alpn, self.stack.provider()))
    }

    /// The same with another provider, so that a service can do what it must not.
    pub(crate) fn server_with(
        &self,
        identity: &Identity,
        alpn: &[&str],
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> ServerConfig {
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain(identity), key(identity))
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// TLS of a server that asks nobody for a certificate.
    pub(crate) fn web_server(&self, identity: &Identity) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(self.stack.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain(identity), key(identity));
        Arc::new(config.unwrap())
    }

    /// TLS of a service that staples what it is given.
    pub(crate) fn stapling(&self, identity: &Identity, response: Vec<u8>) -> Arc<ServerConfig> {
        let mut certified = CertifiedKey::clone(&self.certified(identity));
        certified.ocsp = Some(response);
        let mut config = self.server_with(identity, &["http/1.1"], self.stack.provider());
        config.cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        Arc::new(config)
    }

    /// TLS of a service that asks for certificates of its own stack and of the other's, and takes
    /// those of its own.
    pub(crate) fn server_asking(&self, identity: &Identity, other: &Pki) -> Arc<ServerConfig> {
        let config = self.server_with(identity, &["http/1.1"], self.stack.provider());
        let verifier = |of: &Pki| {
            let roots = Arc::new(of.roots());
            WebPkiClientVerifier::builder_with_provider(roots, of.stack.provider()).build().unwrap()
        };
        let asking = Asking { own: verifier(self), other: verifier(other) };
        let mut asking = ServerConfig::builder_with_provider(self.stack.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(asking))
            .with_cert_resolver(Arc::clone(&config.cert_resolver));
        asking.alpn_protocols.clone_from(&config.alpn_protocols);
        Arc::new(asking)
    }

    pub(crate) fn stack(&self) -> Stack {
        self.stack
    }

    /// A certificate and its key as a caller shows them.
    pub(crate) fn certified(&self, identity: &Identity) -> Arc<CertifiedKey> {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key(identity)).unwrap();
        Arc::new(CertifiedKey::new(chain(identity), key))
    }

    /// TLS of a caller that names a server as it likes, and takes whatever answers. `shows` is asked
    /// for its certificate.
    pub(crate) fn naming(&self, shows: Arc<dyn ResolvesClientCert>) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(self.stack.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody::new(self.stack)))
            .with_client_cert_resolver(shows);
        Arc::new(config)
    }

    /// What a server staples to its handshake.
    pub(crate) async fn stapled(&self, identity: &Identity, to: SocketAddr) -> Vec<u8> {
        let anybody = Arc::new(Anybody::new(self.stack));
        let mut config = ClientConfig::clone(&self.client(Some(identity), "http/1.1"));
        let verifier = Arc::clone(&anybody) as Arc<dyn ServerCertVerifier>;
        config.dangerous().set_certificate_verifier(verifier);
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let _tls = connector.connect(name, stream).await.unwrap();
        anybody.stapled.lock().unwrap().clone()
    }

    /// TLS of a service that asks for no certificate.
    pub(crate) fn open_server(&self, identity: &Identity) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(self.stack.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain(identity), key(identity));
        Arc::new(config.unwrap())
    }
}

/// Takes any service's certificate, and keeps what it staples.
#[derive(Debug)]
struct Anybody {
    stack: Stack,
    stapled: Mutex<Vec<u8>>,
}

impl Anybody {
    fn new(stack: Stack) -> Anybody {
        Anybody { stack, stapled: Mutex::default() }
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().unwrap() = ocsp_response.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = self.stack.provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.stack.provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Asks for more than it takes, and names no authority.
#[derive(Debug)]
struct Asking {
    own: Arc<dyn ClientCertVerifier>,
    other: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Asking {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.own.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        [self.own.supported_verify_schemes(), self.other.supported_verify_schemes()].concat()
    }
}

/// What an authority says of revoked certificates.
pub(crate) struct Lists {
    issuing: Register,
    root: Register,
    _dir: tempfile::TempDir,
}

impl Lists {
    pub(crate) fn new(pki: &Pki) -> Lists {
        let dir = tempfile::tempdir().unwrap();
        let open = |level| Register::open(dir.path(), pki.authority.kind(), level).unwrap();
        Lists { issuing: open(Level::Issuing), root: open(Level::Root), _dir: dir }
    }

    /// Revokes what the issuing authority has issued.
    pub(crate) fn revoke(&mut self, identity: &Identity) {
        let serial = self.issuing.enter(&chain(identity)[0]).unwrap();
        let revocation = Revocation { at_s: now_s(), reason: Reason::KeyCompromise };
        self.issuing.revoke(&serial, revocation).unwrap();
    }

    /// An OCSP response for what the issuing authority has issued.
    pub(crate) fn answer(&mut self, pki: &Pki, identity: &Identity) -> Vec<u8> {
        let certificates = [chain(identity).swap_remove(0)];
        self.issuing.enter(&certificates[0]).unwrap();
        let window = Window { from_s: now_s(), length_s: 3_600 };
        let hash = pki.authority.usual_hash();
        let question = Question { certificates: &certificates, hash, window, responder: None };
        pki.authority.answer(&self.issuing, &question).unwrap().der
    }

    /// The current lists of both levels, in one file.
    pub(crate) fn pem(&mut self, pki: &Pki, length_s: i64) -> String {
        let window = Window { from_s: now_s(), length_s };
        let list = |level, register| pki.authority.list(level, register, window).unwrap().pem;
        list(Level::Issuing, &mut self.issuing) + &list(Level::Root, &mut self.root)
    }
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap()
}
