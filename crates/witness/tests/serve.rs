//! The witness as a log sees it, over HTTP and by the courier.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use moat_model::clock::Manual;
use moat_net::carriage::{self, Ask, Got};
use moat_net::control::Channel;
use moat_tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use moat_tlog::key::{Algorithm, KeyName};
use moat_tlog::sign::{AwsLc, Ed25519Signer, Signer};
use moat_tlog::witness::{Answer, Request, SIZE_CONTENT_TYPE};
use moat_tlog::{Frontier, Hash, Head, Sha256, TreeHash as _};
use moat_witness::courier::{Address, carry};
use moat_witness::server::serve;
use moat_witness::witness::{OpenError, Witness};

const ORIGIN: &str = "pay.bank.test/audit";

fn log() -> Ed25519Signer {
    let name = KeyName::new(ORIGIN).unwrap();
    Ed25519Signer::from_seed(name, Algorithm::Ed25519, &[1; 32]).unwrap()
}

fn key() -> Ed25519Signer {
    let name = KeyName::new("w.test").unwrap();
    Ed25519Signer::from_seed(name, Algorithm::CosignatureV1, &[2; 32]).unwrap()
}

fn witness(dir: &Path) -> Witness {
    Witness::open(dir, vec![log().key().clone()], vec![Box::new(key())]).unwrap()
}

/// The head of a tree whose leaves are 0, 1, …, told apart by `history`.
fn head(history: u8, size: u64) -> Head {
    let mut tree = Frontier::<Sha256>::new();
    (0..size).for_each(|n| tree.push(leaf(history, n)).unwrap());
    Head { size, root: tree.root() }
}

fn leaf(history: u8, n: u64) -> Hash {
    Sha256::leaf(&[&[history][..], &n.to_be_bytes()].concat())
}

fn signed(history: u8, size: u64) -> SignedCheckpoint {
    Checkpoint::new(ORIGIN, head(history, size)).unwrap().sign(&[&log()]).unwrap()
}

/// From one leaf to two: the proof is the second leaf.
fn grow() -> Request {
    Request::new(1, vec![leaf(0, 1)], signed(0, 2)).unwrap()
}

fn clock() -> Arc<Manual> {
    Arc::new(Manual::at(1_800_000_000_000_000_000, 0))
}

fn status(witness: &mut Witness, request: &Request) -> u16 {
    match witness.answer(request.body().as_bytes(), &*clock()) {
        Ok(_) => 200,
        Err(moat_witness::witness::WitnessError::Refused(refusal)) => refusal.status(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_witness_remembers_over_its_end_what_it_cosigned_and_keeps_the_evidence_of_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = witness(dir.path());
    assert_eq!(status(&mut first, &Request::new(0, vec![], signed(0, 1)).unwrap()), 200);
    let Err(OpenError::Io(error)) =
        Witness::open(dir.path(), vec![log().key().clone()], vec![Box::new(key())])
    else {
        panic!("two witnesses with one state");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    let mut again = witness(dir.path());
    assert_eq!(status(&mut again, &Request::new(0, vec![], signed(0, 2)).unwrap()), 409);
    assert_eq!(status(&mut again, &grow()), 200);
    // The same once more is cosigned once more; another history is not, and is kept.
    assert_eq!(status(&mut again, &Request::new(2, vec![], signed(0, 2)).unwrap()), 200);
    let fork = Request::new(2, vec![], signed(9, 2)).unwrap();
    assert_eq!(status(&mut again, &fork), 409);
    assert_eq!(status(&mut again, &fork), 409);
    let bad = Request::new(2, vec![leaf(0, 2)], signed(9, 3)).unwrap();
    assert_eq!(status(&mut again, &bad), 422);
    let evidence: Vec<_> = std::fs::read_dir(dir.path().join("evidence")).unwrap().collect();
    assert_eq!(evidence.len(), 2, "each once");
    // A state that cannot be read is no state to begin anew from.
    let state = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let state = state.into_iter().find(|path| path.file_name().unwrap().len() == 64).unwrap();
    std::fs::write(&state, "nothing\n").unwrap();
    let request = Request::new(0, vec![], signed(9, 1)).unwrap();
    assert!(again.answer(request.body().as_bytes(), &*clock()).is_err());
}

#[test]
fn keys_that_are_for_another_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Witness::open(dir.path(), vec![], vec![Box::new(key())]).is_err());
    let logs = vec![log().key().clone()];
    assert!(Witness::open(dir.path(), logs.clone(), vec![Box::new(log())]).is_err());
    assert!(Witness::open(dir.path(), logs, vec![]).is_err());
    let logs = vec![key().key().clone()];
    assert!(Witness::open(dir.path(), logs, vec![Box::new(key())]).is_err());
}

fn start(dir: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let witness = witness(dir);
    std::thread::spawn(move || serve(witness, listener, clock()));
    address
}

fn courier(addresses: Vec<Option<SocketAddr>>) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    let at = |address| Address { address, prefix: String::new() };
    let addresses = addresses.into_iter().map(|address| address.map(at)).collect();
    std::thread::spawn(move || carry(Channel::from_fd(theirs), addresses));
    ours
}

fn ask(courier: &Channel, id: u64, witness: usize, body: String) -> Got {
    carriage::send(courier, &Ask { id, witness, body }).unwrap();
    let got = carriage::receive::<Got>(courier).unwrap().unwrap();
    assert_eq!((got.id, got.witness), (id, witness));
    got
}

#[test]
fn the_courier_brings_the_answers_of_the_protocol_and_says_when_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let talks = TcpListener::bind("127.0.0.1:0").unwrap();
    let courier =
        courier(vec![Some(start(dir.path())), Some(gone), None, Some(talks.local_addr().unwrap())]);
    let body = Request::new(0, vec![], signed(0, 1)).unwrap().body();
    let got = ask(&courier, 7, 0, body.clone()).answer.unwrap();
    let answer = Answer::parse(got.status, &got.content_type, got.body.as_bytes()).unwrap();
    let witnesses = [key().key().clone()];
    let lines = answer.accept(signed(0, 1).checkpoint(), &witnesses, &AwsLc);
    assert_eq!(lines.iter().map(|(_, time)| *time).collect::<Vec<_>>(), [1_800_000_000]);
    // Stale: the size comes back with its type.
    let got = ask(&courier, 8, 0, body.clone()).answer.unwrap();
    assert_eq!(
        (got.status, got.content_type.as_str(), got.body.as_str()),
        (409, SIZE_CONTENT_TYPE, "1\n")
    );
    assert_eq!(ask(&courier, 9, 0, "nonsense".to_owned()).answer.unwrap().status, 400);
    for witness in [1, 2, 99] {
        assert!(ask(&courier, 10, witness, body.clone()).answer.is_err());
    }
    // An answer longer than is carried, and one that is no text.
    for body_bytes in ["x".repeat(9_000), "\u{1}".repeat(10)] {
        let talks = talks.try_clone().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body_bytes.len());
        std::thread::spawn(move || {
            let (mut stream, _) = talks.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all((head + &body_bytes).as_bytes());
        });
        assert!(ask(&courier, 11, 3, body.clone()).answer.is_err());
    }
}

#[test]
fn what_is_no_request_is_answered_and_the_next_one_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let address = start(dir.path());
    let say = |text: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.lines().next().unwrap_or_default().to_owned()
    };
    let close = "Host: w\r\nConnection: close\r\n";
    assert!(say(&format!("GET / HTTP/1.1\r\n{close}\r\n")).contains(" 404 "));
    assert!(say(&format!("GET /add-checkpoint HTTP/1.1\r\n{close}\r\n")).contains(" 405 "));
    let long = format!("POST /add-checkpoint HTTP/1.1\r\n{close}Content-Length: 300000\r\n\r\n");
    assert!(say(&(long + &"x".repeat(300_000))).contains(" 400 "));
    let body = Request::new(0, vec![], signed(0, 1)).unwrap().body();
    let length = body.len();
    let post = format!("POST /add-checkpoint HTTP/1.1\r\n{close}Content-Length: {length}\r\n\r\n");
    assert!(say(&(post + &body)).contains(" 200 "));
}
