//! Both sides on a socket in memory that a test cuts as it likes.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::client::Connection;
use super::server::{Control, Findings, serve};
use crate::body::{Error, Incoming};
use crate::date::Dates;

/// More than anything here needs at once.
const ROOM: usize = 1024 * 1024;

/// What a service saw of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    head: String,
    body: Result<Vec<u8>, ()>,
    trailers: Vec<String>,
    refused: Option<&'static str>,
}

async fn read(mut body: Incoming) -> (Result<Vec<u8>, ()>, Vec<String>) {
    let (mut bytes, mut trailers) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (Err(()), trailers) };
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => {
                trailers.extend(frame.into_trailers().unwrap().keys().map(ToString::to_string));
            }
        }
    }
    (Ok(bytes), trailers)
}

/// Serves `parts` as they come, with a pause after each; gives what was seen and what was written.
async fn served(parts: Vec<Vec<u8>>, ends: bool) -> (Vec<Seen>, Vec<u8>, Result<(), ()>) {
    let (caller, io) = duplex(ROOM);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (findings, dates) = (Rc::<Findings>::default(), Dates::default());
    let service = {
        let (seen, findings) = (Rc::clone(&seen), Rc::clone(&findings));
        move |request: Request<Incoming>| {
            let (seen, findings) = (Rc::clone(&seen), Rc::clone(&findings));
            async move {
                let index = seen.borrow().len() as u64;
                let (head, body) = request.into_parts();
                let refused = findings.refusal_of(index).map(|refused| refused.code.id);
                let (body, trailers) = read(body).await;
                let head = format!("{} {} {:?}", head.method, head.uri, head.headers);
                let length = body.as_ref().map_or(0, Vec::len);
                let refused = refused.or(findings.in_body().map(|refused| refused.code.id));
                seen.borrow_mut().push(Seen { head, body, trailers, refused });
                Response::new(Full::new(Bytes::from(format!("{index}:{length}"))))
            }
        }
    };
    let serving = serve(io, findings, Rc::default(), &dates, service);
    let talking = async {
        let (mut reader, mut writer) = tokio::io::split(caller);
        let writing = async {
            for part in parts {
                // The other end may have closed: what it has said is still to be read.
                let _ = writer.write_all(&part).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // An end in the middle of a call is a caller that has gone: all answers come first.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if ends {
                let _ = writer.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        let mut written = Vec::new();
        tokio::select! {
            () = writing => {}
            _ = reader.read_to_end(&mut written) => {}
        }
        written
    };
    let (served, written) = tokio::join!(serving, talking);
    let seen = seen.borrow().clone();
    (seen, written, served.map_err(|_| ()))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn answers(written: &[u8]) -> Vec<String> {
    let text = String::from_utf8(written.to_vec()).unwrap();
    let lines = text.split("\r\n").filter(|line| !line.starts_with("date: "));
    lines.map(str::to_owned).collect()
}

const THREE: &str = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\
                     PUT /b?c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                     3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX-Sum: 1\r\n\r\n\
                     \r\nGET /c HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n";

#[test]
fn three_pipelined_requests_are_answered_in_order() {
    let (seen, written, ended) = run(served(vec![THREE.into()], true));
    assert_eq!(ended, Ok(()));
    assert_eq!(seen.iter().map(|s| s.body.clone().unwrap().len()).collect::<Vec<_>>(), [4, 19, 0]);
    assert_eq!(seen[1].trailers, ["x-sum"]);
    assert!(seen[2].head.starts_with("GET /c"), "{}", seen[2].head);
    let expected: Vec<String> = ["0:4", "1:19", "2:0"]
        .iter()
        .flat_map(|body| {
            ["HTTP/1.1 200 OK", &format!("content-length: {}", body.len()), "", *body]
                .map(str::to_owned)
        })
        .collect();
    // The body of one answer and the next status line stand in one line.
    let joined = expected.join("\r\n").replace("0:4\r\nHTTP", "0:4HTTP");
    let joined = joined.replace("1:19\r\nHTTP", "1:19HTTP");
    assert_eq!(answers(&written).join("\r\n"), joined);
}

#[test]
fn a_refused_head_is_answered_behind_those_before_it_and_ends_the_connection() {
    let input = "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n\
                 GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    let (seen, written, ended) = run(served(vec![input.into()], false));
    assert_eq!(ended, Ok(()));
    let refused: Vec<_> = seen.iter().map(|s| s.refused).collect();
    assert_eq!(refused, [None, Some("MOAT-H007")]);
    assert!(answers(&written).contains(&"connection: close".to_owned()));
}

#[test]
fn a_slow_head_is_refused() {
    let (seen, written, ended) = run(served(vec![b"GET / HT".to_vec()], false));
    assert_eq!((seen.len(), seen[0].refused, ended), (1, Some("MOAT-H017"), Ok(())));
    assert!(!written.is_empty());
}

#[test]
fn close_is_obeyed_and_http_1_0_ends_unless_it_asks_to_stay() {
    for (input, stays) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
    ] {
        let (seen, written, _) = run(served(vec![input.into()], true));
        let lines = answers(&written);
        assert_eq!(seen.len(), 1);
        assert_eq!(lines.contains(&"connection: close".to_owned()), !stays, "{input}");
        let says = lines.contains(&"connection: keep-alive".to_owned());
        assert_eq!(says, stays && input.contains("1.0"));
    }
}

/// A service that answers without reading, on a socket that the test holds.
async fn unread(control: Rc<Control>, drive: impl AsyncFnOnce(DuplexStream)) -> Result<(), Error> {
    let (caller, io) = duplex(ROOM);
    let dates = Dates::default();
    let service =
        |_: Request<Incoming>| async { Response::new(Full::new(Bytes::from_static(b"no"))) };
    let serving = serve(io, Rc::default(), control, &dates, service);
    tokio::join!(serving, drive(caller)).0
}

#[test]
fn a_body_that_nobody_wants_is_read_within_bounds_and_the_connection_goes_on() {
    run(async {
        let ended = unread(Rc::default(), async |mut caller| {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
            caller.write_all(head.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            assert!(caller.read(&mut answer).await.unwrap() > 0);
            caller.write_all(b"abcGET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert!(caller.read(&mut answer).await.unwrap() > 0);
            // One that never ends is not waited for.
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
            caller.write_all(head.as_bytes()).await.unwrap();
            assert!(caller.read(&mut answer).await.unwrap() > 0);
            assert_eq!(caller.read(&mut answer).await.unwrap(), 0);
        });
        ended.await.unwrap();
    });
}

#[test]
fn who_waits_for_a_sign_gets_one_only_if_the_body_is_wanted() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let (seen, written, _) = run(served(vec![head.into(), b"hi".to_vec()], true));
    assert_eq!(seen[0].body, Ok(b"hi".to_vec()));
    assert!(written.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
    let (_, written, _) = run(served(vec![format!("{head}hi").into()], true));
    assert!(written.starts_with(b"HTTP/1.1 200 OK\r\n"), "the body is there already");
    run(async {
        let done = unread(Rc::default(), async |mut caller| {
            caller.write_all(head.as_bytes()).await.unwrap();
            let mut all = Vec::new();
            caller.read_to_end(&mut all).await.unwrap();
            assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"));
        });
        done.await.unwrap();
    });
}

#[test]
fn a_connection_that_retires_ends_with_its_next_answer_and_a_cut_one_in_any_case() {
    run(async {
        let control = Rc::<Control>::default();
        let told = Rc::clone(&control);
        let ended = unread(Rc::clone(&control), async |mut caller| {
            caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = vec![0; 4096];
            assert!(caller.read(&mut answer).await.unwrap() > 0);
            // It may still bring one request, whose answer says that it is the last.
            told.retire(Duration::from_millis(300));
            tokio::task::yield_now().await;
            caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let length = caller.read(&mut answer).await.unwrap();
            assert!(answers(&answer[..length]).contains(&"connection: close".to_owned()));
            assert_eq!(caller.read(&mut answer).await.unwrap(), 0);
        });
        ended.await.unwrap();
        let control = Rc::<Control>::default();
        control.retire(Duration::from_millis(50));
        let ended = unread(control, async |mut caller| {
            assert_eq!(caller.read(&mut [0; 16]).await.unwrap(), 0, "nobody came");
        });
        ended.await.unwrap();
        let (mut caller, io) = duplex(ROOM);
        let (control, dates) = (Rc::<Control>::default(), Dates::default());
        let service = |_: Request<Incoming>| std::future::pending::<Response<Full<Bytes>>>();
        let serving = serve(io, Rc::default(), Rc::clone(&control), &dates, service);
        let cutting = async {
            caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            control.cut(Duration::from_millis(250));
            assert_eq!(caller.read(&mut [0; 16]).await.unwrap(), 0);
        };
        tokio::join!(serving, cutting).0.unwrap();
    });
}

#[test]
fn a_caller_that_goes_away_drops_the_call() {
    run(async {
        let (caller, io) = duplex(64);
        let dates = Dates::default();
        let service = |_: Request<Incoming>| std::future::pending::<Response<Full<Bytes>>>();
        let serving = serve(io, Rc::default(), Rc::default(), &dates, service);
        let leaving = async {
            let mut caller = caller;
            caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(caller);
        };
        assert!(matches!(tokio::join!(serving, leaving).0, Err(Error::Gone)));
    });
}

/// What a call came to, for a service that answers `written`, in these parts.
async fn called(
    method: Method,
    parts: Vec<Vec<u8>>,
    ends: bool,
) -> Result<(u16, Vec<u8>, Vec<String>, bool), &'static str> {
    let (mut service, io) = duplex(ROOM);
    let connection = Connection::<_, Full<Bytes>>::new(io);
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = method;
    let calling = async {
        let response = connection.send(request).await.map_err(|failed| why(&failed.error))?;
        let status = response.status().as_u16();
        let (body, trailers) = read(response.into_body()).await;
        let body = body.map_err(|()| "body")?;
        Ok((status, body, trailers))
    };
    let answering = async {
        let mut head = vec![0; 4096];
        assert!(service.read(&mut head).await.unwrap() > 0);
        for part in parts {
            service.write_all(&part).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if ends {
            service.shutdown().await.unwrap();
        }
        service
    };
    let (called, _service) = tokio::join!(calling, answering);
    // What comes behind an answer may come later than its end.
    tokio::time::sleep(Duration::from_millis(1)).await;
    called.map(|(status, body, trailers)| (status, body, trailers, connection.is_ready()))
}

fn why(error: &Error) -> &'static str {
    match error {
        Error::Refused(refused) => refused.code.id,
        Error::Io(_) => "io",
        Error::Unsendable => "unsendable",
        Error::Gone | Error::Http2(_) => "gone",
    }
}

#[test]
fn answers_end_as_their_framing_says_and_only_clean_ones_leave_a_connection() {
    /// Status, body and whether the connection is kept; or what failed.
    type Expected = Result<(u16, &'static str, bool), &'static str>;
    let cases: [(&str, bool, Expected); 9] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, Ok((200, "hi", true))),
        ("HTTP/1.1 204 No\r\n\r\n", false, Ok((204, "", true))),
        (
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            false,
            Ok((200, "hi", true)),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhi", true, Ok((200, "hi", false))),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
            true,
            Ok((200, "hi", false)),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1", false, Ok((200, "hi", false))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", true, Err("body")),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nhi!",
            false,
            Err("MOAT-U006"),
        ),
        ("HTTP/1.1 20", true, Err("MOAT-U004")),
    ];
    for (answer, ends, expected) in cases {
        for cut in 0..answer.len() {
            let parts = vec![answer.as_bytes()[..cut].to_vec(), answer.as_bytes()[cut..].to_vec()];
            let seen = run(called(Method::GET, parts, ends));
            let seen = seen
                .map(|(status, body, _, stays)| (status, String::from_utf8(body).unwrap(), stays));
            let expected = expected.map(|(status, body, stays)| (status, body.to_owned(), stays));
            assert_eq!(seen, expected, "{answer} cut at {cut}");
        }
    }
    let seen = run(called(
        Method::HEAD,
        vec![b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec()],
        false,
    ));
    assert_eq!(seen, Ok((200, Vec::new(), Vec::new(), true)));
}

#[test]
fn a_connection_that_has_ended_carries_nothing_and_gives_the_request_back() {
    run(async {
        for said in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n"] {
            let (mut service, io) = duplex(ROOM);
            let connection = Connection::<_, Full<Bytes>>::new(io);
            assert!(connection.is_ready());
            service.write_all(said).await.unwrap();
            service.shutdown().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(!connection.is_ready());
        }
        // One whose answer was not read to its end.
        let (mut service, io) = duplex(ROOM);
        let connection = Connection::<_, Full<Bytes>>::new(io);
        service.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        drop(connection.send(Request::new(Full::default())).await.map_err(|f| f.error).unwrap());
        let failed = connection.send(Request::new(Full::default())).await.err().unwrap();
        assert!(failed.unsent.is_some() && !connection.has_ended());
    });
}

#[test]
fn an_answer_that_comes_first_does_not_stop_the_request() {
    run(async {
        let (mut service, io) = duplex(ROOM);
        let connection = Connection::new(io);
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let mut request = Request::new(Channel(receiver));
        *request.method_mut() = Method::POST;
        let calling = async {
            let response = connection.send(request).await.map_err(|f| f.error).unwrap();
            read(response.into_body()).await.0.unwrap()
        };
        let serving = async {
            let mut head = vec![0; 4096];
            let read = service.read(&mut head).await.unwrap();
            assert!(head[..read].ends_with(b"transfer-encoding: chunked\r\n\r\n"));
            service.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await.unwrap();
            sender.send(Bytes::from_static(b"0123456789abcdef!")).await.unwrap();
            let mut chunk = [0; 23];
            service.read_exact(&mut chunk).await.unwrap();
            assert_eq!(&chunk, b"11\r\n0123456789abcdef!\r\n");
            drop(sender);
            let mut last = [0; 5];
            service.read_exact(&mut last).await.unwrap();
            assert_eq!(&last, b"0\r\n\r\n");
            service.write_all(b"ok").await.unwrap();
        };
        assert_eq!(tokio::join!(calling, serving).0, b"ok");
        assert!(connection.has_ended());
    });
}

/// A body of what a channel brings.
struct Channel(tokio::sync::mpsc::Receiver<Bytes>);

impl Body for Channel {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// Cuts `bytes` at these places.
fn cut(bytes: &[u8], at: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = at.iter().map(|at| at.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

/// Requests, well-formed and not: each with one byte changed perhaps.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let message = prop::sample::select(vec![
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /b HTTP/1.1\r\nHost: a\r\nX:  y \r\nX: z\r\n\r\n",
        "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n",
        "GET /e HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        "GET /f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "PUT /g HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]);
    let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(message, 1..5), change).prop_map(|(messages, change)| {
        let mut bytes = messages.concat().into_bytes();
        if let Some((at, byte)) = change {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn however_requests_are_cut_the_service_sees_the_same_and_says_the_same(
        stream in streams(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (seen, written, _) = run(served(vec![stream.clone()], true));
        let (seen_cut, written_cut, _) = run(served(cut(&stream, &at), true));
        prop_assert_eq!(seen, seen_cut);
        prop_assert_eq!(answers(&written), answers(&written_cut));
    }

    #[test]
    fn however_an_answer_is_cut_the_caller_gets_the_same(
        answer in prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA:  b \r\n\r\nhello",
            "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        ]),
        change in prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>())),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut answer = answer.as_bytes().to_vec();
        if let Some((at, byte)) = change {
            let at = at.index(answer.len());
            answer[at] = byte;
        }
        let whole = run(called(Method::GET, vec![answer.clone()], true));
        prop_assert_eq!(whole, run(called(Method::GET, cut(&answer, &at), true)));
    }
}
