//! Keys of issuers that are fetched by URL: again and again, and once more when a token names a key
//! that is not there. The last good set is kept, for as long as the configuration lets it.
//!
//! Only the upkeep thread connects, and only to the address that the configuration names; the egress
//! guard sees it like every other connection of the gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use moat_config::{KeyUrl, Place};
use moat_identity::NamedKey;
use moat_net::dns;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsConnector;

use crate::generation::{Generation, Refused};

/// Longest set, in bytes.
const SET_BYTES_MAX: usize = 256 * 1024;
/// Longest time for one fetch, from the first packet to the last byte.
const FETCH: Duration = Duration::from_secs(5);
/// Longest wait of a call for a key that its token names.
const WAIT: Duration = Duration::from_secs(1);
/// Shortest time between two fetches that calls have asked for: a caller that makes up names of
/// keys makes no more than these.
const PAUSE: Duration = Duration::from_secs(10);
/// Pause after a failed fetch; doubles up to the usual one.
const AGAIN: Duration = Duration::from_secs(1);

/// One set of keys. Outlives generations that name the same place and authorities.
pub(crate) struct KeySet {
    place: Place,
    authority: String,
    path: String,
    server: ServerName<'static>,
    tls: Arc<ClientConfig>,
    refresh: Duration,
    keep: Duration,
    known: Mutex<State>,
    /// A call wants it anew.
    wanted: Notify,
    /// Counts fetches, good or not.
    fetched: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<NamedKey>>,
    /// When they came.
    since: Option<Instant>,
    /// When a call last asked for them.
    asked: Option<Instant>,
    version: u64,
}

/// Sets of keys by what they are fetched from and with.
#[derive(Default)]
pub(crate) struct KeySets(Mutex<BTreeMap<Name, Weak<KeySet>>>);

/// Place and times, and authorities.
type Name = (String, Vec<u8>);

impl KeySets {
    /// The set of this place: the one that is there, unless something of it has changed.
    ///
    /// # Errors
    /// Its authorities cannot be read.
    pub(crate) fn set(&self, raw: &KeyUrl) -> Result<Arc<KeySet>, Refused> {
        let key = (raw.to_string(), raw.trust_pem.clone());
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(&key).and_then(Weak::upgrade) {
            return Ok(set);
        }
        let set = Arc::new(KeySet::new(raw)?);
        sets.retain(|_, set| set.strong_count() > 0);
        sets.insert(key, Arc::downgrade(&set));
        Ok(set)
    }
}

impl KeySet {
    fn new(raw: &KeyUrl) -> Result<KeySet, Refused> {
        let bad = |why: &dyn core::fmt::Display| {
            Refused::new(&moat_model::code::config::BAD_VALUE, format!("tokens: {raw}: {why}"))
        };
        let tls = moat_tls::web_client(&raw.trust_pem)
            .map_err(|e| Refused::new(e.code, format!("tokens: {raw}: {}", e.detail)))?;
        let (host, port) = match &raw.place {
            Place::Address(address) => (address.ip().to_string(), address.port()),
            Place::Name(name, port) => (name.clone(), *port),
        };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Ok(KeySet {
            place: raw.place.clone(),
            authority: format!("{shown}:{port}"),
            path: raw.path.clone(),
            server: ServerName::try_from(host).map_err(|e| bad(&e))?,
            tls,
            refresh: Duration::from_millis(raw.refresh_ms),
            keep: Duration::from_millis(raw.keep_ms),
            known: Mutex::default(),
            wanted: Notify::new(),
            fetched: watch::Sender::new(0),
        })
    }

    fn known(&self) -> MutexGuard<'_, State> {
        // Nothing in here can be half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys; nothing once they are older than they may be.
    pub(crate) fn keys(&self, now: Instant) -> Option<Arc<Vec<NamedKey>>> {
        let known = self.known();
        let since = known.since?;
        (now.saturating_duration_since(since) <= self.keep).then(|| Arc::clone(&known.keys))
    }

    /// A number that grows with each set that came: what was verified by one before may not be good
    /// any more.
    pub(crate) fn version(&self) -> u64 {
        self.known().version
    }

    /// Waits, for a bounded time, until the key is there, if it is worth asking for.
    pub(crate) async fn ask_for(&self, id: &str) {
        let mut fetched = self.fetched.subscribe();
        {
            let (mut known, now) = (self.known(), Instant::now());
            if known.keys.iter().any(|key| key.id == id) && known.since.is_some() {
                return;
            }
            if known.asked.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
                return;
            }
            known.asked = Some(now);
        }
        self.wanted.notify_one();
        // Whether it came or not, the token is verified next.
        let _ = tokio::time::timeout(WAIT, fetched.changed()).await;
    }

    fn take(&self, keys: Vec<NamedKey>) {
        let mut known = self.known();
        known.keys = Arc::new(keys);
        known.since = Some(Instant::now());
        known.version += 1;
        drop(known);
        self.fetched.send_modify(|count| *count += 1);
    }
}

/// Fetches a set as long as its generation is in force.
pub(crate) async fn watch(set: Arc<KeySet>, generation: Arc<Generation>, chance: impl Fn() -> u16) {
    // What a generation before has fetched is still fresh.
    let age = set.known().since.map(|since| since.elapsed());
    let mut due = age.map_or(Duration::ZERO, |age| set.refresh.saturating_sub(age));
    let mut again = AGAIN;
    loop {
        tokio::select! {
            () = tokio::time::sleep(due) => {}
            () = set.wanted.notified() => {}
        }
        let fetched = tokio::time::timeout(FETCH, fetch(&set, &generation, chance())).await;
        match fetched.unwrap_or_else(|_| Err("not in time".to_owned())) {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), from = set.authority, "keys of an issuer");
                set.take(keys);
                (due, again) = (set.refresh, AGAIN);
            }
            Err(why) => {
                let from = &set.authority;
                tracing::error!(from, why, "keys of an issuer are not fetched; those before stay");
                // Whoever waits for it waits no longer.
                set.fetched.send_modify(|count| *count += 1);
                due = again.min(set.refresh);
                again = (again * 2).min(set.refresh);
            }
        }
    }
}

async fn fetch(set: &KeySet, generation: &Generation, id: u16) -> Result<Vec<NamedKey>, String> {
    let text = |error: &dyn core::fmt::Display| error.to_string();
    let address = address(set, generation, id).await?;
    let stream = TcpStream::connect(address).await.map_err(|e| text(&e))?;
    let connector = TlsConnector::from(Arc::clone(&set.tls));
    let tls = connector.connect(set.server.clone(), stream).await.map_err(|e| text(&e))?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(tls)).await.map_err(|e| text(&e))?;
    let request = Request::get(&set.path)
        .header(header::HOST, &set.authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .body(Empty::new())
        .map_err(|e| text(&e))?;
    // It ends as soon as the server closes, which may be before the answer was read here.
    let _driven = Driven(tokio::task::spawn_local(async move { drop(connection.await) }));
    let answer = sender.send_request(request).await.map_err(|e| text(&e))?;
    // Redirects are not followed: they could lead anywhere.
    if answer.status() != StatusCode::OK {
        return Err(format!("status {}", answer.status()));
    }
    let set = read(answer.into_body()).await?;
    moat_identity::read_keys(&set).map_err(|e| text(&e))
}

/// A connection that ends with the fetch, however that ends.
struct Driven(tokio::task::JoinHandle<()>);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(mut body: hyper::body::Incoming) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| e.to_string())?.into_data() else { continue };
        if bytes.len() + data.len() > SET_BYTES_MAX {
            return Err(format!("over {SET_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

async fn address(set: &KeySet, generation: &Generation, id: u16) -> Result<SocketAddr, String> {
    match &set.place {
        Place::Address(address) => Ok(*address),
        Place::Name(name, port) => {
            let found = dns::resolve(&generation.dns, name, id).await.map_err(|e| e.to_string())?;
            let first = found.addresses.first().ok_or("the name has no address")?;
            Ok(SocketAddr::new(*first, *port))
        }
    }
}

#[cfg(test)]
#[path = "key_sets_tests.rs"]
mod tests;
