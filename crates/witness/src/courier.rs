//! The courier role: takes questions from the auditor, asks witnesses over HTTP, brings answers
//! back. Opens no file, holds no key, and connects to the addresses that it was given at its start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use moat_net::carriage::{self, ANSWER_BYTES_MAX, Answered, Ask, Got};
use moat_net::control::Channel;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Longest time for one question, from connecting to the last byte of the answer.
const ASK: Duration = Duration::from_secs(5);
/// Most questions that wait to be asked; the auditor has one a witness under way.
const ASKS_MAX: usize = 64;
/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest content type that is carried, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 128;

/// Where a witness is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Address and port.
    pub address: SocketAddr,
    /// The submission prefix, without a slash at its end.
    pub prefix: String,
}

/// Carries until the auditor or the supervisor goes away. `witnesses` in the order of the policy;
/// none for those that are asked by hand.
///
/// # Errors
/// When the system has no thread or runtime left.
pub fn carry(auditor: Channel, witnesses: Vec<Option<Address>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let auditor = Arc::new(auditor);
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    let reading = Arc::clone(&auditor);
    // A thread, for the channel blocks. Its end ends the loop below.
    std::thread::Builder::new().name("asks".to_owned()).spawn(move || {
        while let Ok(Some(ask)) = carriage::receive::<Ask>(&reading) {
            if sender.blocking_send(ask).is_err() {
                return;
            }
        }
    })?;
    LocalSet::new().block_on(&runtime, run(auditor, asks, Arc::new(witnesses)));
    Ok(())
}

async fn run(
    auditor: Arc<Channel>,
    mut asks: mpsc::Receiver<Ask>,
    witnesses: Arc<Vec<Option<Address>>>,
) {
    while let Some(Ask { id, witness, body }) = asks.recv().await {
        let (auditor, witnesses) = (Arc::clone(&auditor), Arc::clone(&witnesses));
        // As many at once as there are questions under way: one a witness.
        drop(tokio::task::spawn_local(async move {
            let answer = match witnesses.get(witness).and_then(Option::as_ref) {
                None => Err("this witness has no address".to_owned()),
                Some(at) => tokio::time::timeout(ASK, ask(at, body))
                    .await
                    .unwrap_or_else(|_| Err("no answer in time".to_owned())),
            };
            // An auditor that has gone is seen by the reading thread.
            let _: io::Result<()> = carriage::send(&auditor, &Got { id, witness, answer });
        }));
    }
}

/// One question on a connection of its own.
async fn ask(at: &Address, body: String) -> Result<Answered, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(at.address).await.map_err(|error| text(&error))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let connection = tokio::task::spawn_local(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/add-checkpoint", at.prefix))
        .header(HOST, at.address.to_string())
        .header(USER_AGENT, "moat")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| text(&error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = answer.status().as_u16();
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| text(&error))?.to_bytes();
        let body = String::from_utf8(body.to_vec()).map_err(|error| text(&error))?;
        // Nothing of the protocol has other control characters, and they are long in JSON.
        let is_text = !body.contains(|c: char| c.is_control() && c != '\n');
        if !is_text || content_type.len() > CONTENT_TYPE_BYTES_MAX {
            return Err("the answer is no text".to_owned());
        }
        Ok(Answered { status, content_type, body })
    };
    let asked = asked.await;
    connection.abort();
    asked
}
