//! Handshakes with OpenSSL 4 and with Tongsuo, which have RFC 8998 of their own, and with PyPI's
//! tongsuopy. `cargo xtask interop` brings them and runs these, once for each program in
//! `MOAT_OPENSSL`; without it they are ignored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests read the clock and their environment")]
#![allow(clippy::indexing_slicing, reason = "tests")]

mod pki;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use moat_ca::{Authority, Identity, LeafRequest};
use moat_tls::{ALPN_HTTP1, Client, Material, National, Negotiated, Server, Stack, Trust};
use rustls::server::Acceptor;
use rustls::{ClientConnection, HandshakeKind};
use rustls_pki_types::ServerName;

#[path = "interop/tongsuopy.rs"]
mod tongsuopy;
#[path = "interop/wrong.rs"]
mod wrong;

const WAIT: Duration = Duration::from_secs(20);
const GATEWAY: &str = "spiffe://bank.test/gateway";
const TELLER: &str = "spiffe://bank.test/teller";
const SUITES: [&str; 2] = ["TLS_SM4_GCM_SM3", "TLS_SM4_CCM_SM3"];

/// A folder with certificates of both kinds, and the same in memory.
struct World {
    dir: PathBuf,
    trust: String,
    gateway: [Identity; 2],
    teller: [Identity; 2],
}

impl World {
    fn new(name: &str) -> World {
        let dir = std::env::temp_dir().join(format!("moat-interop-{name}-{}", std::process::id()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let now = i64::try_from(now).unwrap();
        let authorities =
            [Authority::create("Test", now).unwrap(), Authority::create_sm2("Test", now).unwrap()];
        for authority in &authorities {
            moat_ca::save(authority, &dir).unwrap();
        }
        let issue =
            |id| authorities.each_ref().map(|a| a.issue(&LeafRequest::spiffe(id, now)).unwrap());
        let (gateway, teller) = (issue(GATEWAY), issue(TELLER));
        for (identity, stem) in [
            (&gateway[0], "gateway"),
            (&gateway[1], "gateway-sm2"),
            (&teller[0], "teller"),
            (&teller[1], "teller-sm2"),
        ] {
            moat_ca::write_identity(identity, &dir, stem).unwrap();
        }
        // Nothing of the machine's own configuration.
        std::fs::write(dir.join("empty.cnf"), "").unwrap();
        let trust = authorities.each_ref().map(Authority::trust_pem).concat();
        World { dir, trust, gateway, teller }
    }

    fn materials<'a>(&'a self, identities: &'a [Identity; 2]) -> [Material<'a>; 2] {
        identities.each_ref().map(|identity| Material {
            chain_pem: identity.chain_pem.as_bytes(),
            key_pem: identity.key_pem.as_bytes(),
            password: None,
            staple: None,
            trust: Trust::in_authorities(self.trust.as_bytes()),
        })
    }

    fn server(&self, national: National) -> Server {
        Server::new(&self.materials(&self.gateway), national).unwrap()
    }

    fn client(&self, national: National) -> Client {
        let materials = self.materials(&self.teller);
        Client::new(&materials, GATEWAY.parse().unwrap(), &[ALPN_HTTP1], national).unwrap()
    }

    fn openssl(&self, words: &str) -> Command {
        let program =
            std::env::var_os("MOAT_OPENSSL").expect("MOAT_OPENSSL, by cargo xtask interop");
        let mut command = Command::new(program);
        command.args(words.split_whitespace()).current_dir(&self.dir);
        command.env("OPENSSL_CONF", "empty.cnf");
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Ends the process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What our server made of a caller: the negotiation or a code, and how the handshake went.
type Seen = Result<(Negotiated, HandshakeKind, String), String>;

/// No read and no write waits longer than `WAIT`.
fn bound(stream: &TcpStream) {
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
}

/// Serves one connection: reads a line, answers it.
fn serve(server: &Server, mut stream: TcpStream) -> Seen {
    bound(&stream);
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(&mut stream).unwrap() == 0 {
            return Err("it ended in its ClientHello".to_owned());
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((error, mut alert)) => {
                let _ = alert.write_all(&mut stream);
                return Err(moat_tls::code_of(&std::io::Error::other(error)).id.to_owned());
            }
        }
    };
    let choice = server.choose(&accepted.client_hello()).unwrap();
    let mut connection = match accepted.into_connection(Arc::clone(&choice.config)) {
        Ok(connection) => connection,
        Err((error, mut alert)) => {
            let _ = alert.write_all(&mut stream);
            return Err(choice.refusal_of(&std::io::Error::other(error)).code.id.to_owned());
        }
    };
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            return Err(choice.refusal_of(&error).code.id.to_owned());
        }
    }
    let seen = Negotiated::of(&connection).expect("one stack");
    let kind = connection.handshake_kind().unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let mut line = [0; 64];
    let read = tls.read(&mut line).unwrap_or(0);
    let _ = tls.write_all(b"answered\n");
    tls.conn.send_close_notify();
    let _ = tls.flush();
    Ok((seen, kind, String::from_utf8_lossy(line.get(..read).unwrap()).into_owned()))
}

/// A program calls our server: what each of them says. It has our line on its standard input.
fn answer(
    world: &World,
    national: National,
    program: impl FnOnce(u16) -> Command,
) -> (Seen, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = world.server(national);
    let mut command = program(port);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = Running(command.spawn().unwrap());
    let mut stdin = client.0.stdin.take().unwrap();
    let _ = stdin.write_all(b"hello\n");
    let stream = accept(&listener, &mut client);
    let seen = stream.map(|stream| serve(&server, stream));
    drop(stdin);
    if seen.is_none() {
        let _ = client.0.kill();
    }
    let (_, told) = told_by(client);
    (seen.unwrap_or_else(|| panic!("it never called\n{told}")), told)
}

/// The call; none if the program ends without one, or makes none in time.
fn accept(listener: &TcpListener, client: &mut Running) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let until = Instant::now() + WAIT;
    while Instant::now() < until {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return Some(stream);
        }
        if client.0.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// How a program ended and everything it said. One that does not end in time is killed, which fails
/// the test.
fn told_by(mut program: Running) -> (ExitStatus, String) {
    let until = Instant::now() + WAIT;
    let ended = loop {
        // Some kilobytes at most, so that neither pipe fills while it is waited for.
        match program.0.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            None => break None,
        }
    };
    let _ = program.0.kill();
    let mut told = Vec::new();
    program.0.stdout.take().unwrap().read_to_end(&mut told).unwrap();
    program.0.stderr.take().unwrap().read_to_end(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    (ended.unwrap_or_else(|| panic!("it does not end\n{told}")), told)
}

/// Runs a program to its end, with nothing on its standard input: whether it was content, and
/// everything it said.
fn run(command: &mut Command) -> (bool, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (status, told) = told_by(Running(command.spawn().unwrap()));
    (status.success(), told)
}

/// `openssl s_client` with those words calls our server.
fn call(world: &World, national: National, words: &str) -> (Seen, String) {
    answer(world, national, |port| {
        let connect = format!("s_client -connect 127.0.0.1:{port} -tls1_3 -verify_return_error");
        world.openssl(&format!("{connect} {words}"))
    })
}

const TELLER_SM2: &str = "-cert teller-sm2.pem -cert_chain issuing-sm2.pem -key teller-sm2.key \
                          -CAfile root-sm2.pem -alpn http/1.1";

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn openssl_calls_in_both_suites_and_after_a_retry() {
    let world = World::new("calls");
    for suite in SUITES {
        for (groups, kind) in [
            ("curveSM2", HandshakeKind::Full),
            ("X25519:curveSM2", HandshakeKind::FullWithHelloRetryRequest),
        ] {
            let words =
                format!("-ciphersuites {suite} -groups {groups} -sigalgs sm2sig_sm3 {TELLER_SM2}");
            let (seen, told) = call(&world, National::Prefer, &words);
            let (negotiated, seen_kind, line) =
                seen.unwrap_or_else(|code| panic!("{code}\n{told}"));
            assert_eq!((negotiated.suite, negotiated.group), (suite, "curveSM2"));
            assert_eq!(negotiated.stack, Stack::National);
            assert_eq!((seen_kind, line.as_str()), (kind, "hello\n"), "{told}");
            for wanted in ["Verify return code: 0", "sm2sig_sm3", "answered"] {
                assert!(told.contains(wanted), "{wanted} is missing:\n{told}");
            }
            // Each program has its own name for the group.
            let share = told.lines().find(|line| line.starts_with("Peer Temp Key: "));
            assert!(share.is_some_and(|line| line.contains("SM2")), "{told}");
        }
    }
}

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn openssl_calls_both_stacks_on_one_port() {
    let world = World::new("both");
    let ordinary = "-ciphersuites TLS_AES_256_GCM_SHA384 -groups X25519 \
                    -sigalgs ecdsa_secp256r1_sha256 -cert teller.pem -cert_chain issuing.pem \
                    -key teller.key -CAfile root.pem -alpn http/1.1";
    let (seen, told) = call(&world, National::Prefer, ordinary);
    let (negotiated, ..) = seen.unwrap_or_else(|code| panic!("{code}\n{told}"));
    assert_eq!(negotiated.stack, Stack::International);
    let (seen, told) = call(&world, National::Only, ordinary);
    assert_eq!(seen.unwrap_err(), "MOAT-T010", "{told}");
}

/// Starts `openssl s_server` with the SM2 identity; it demands an SM2 certificate.
fn start(world: &World, words: &str) -> (Running, u16) {
    let own = "-Verify 3 -verify_return_error -cert gateway-sm2.pem -cert_chain issuing-sm2.pem \
               -key gateway-sm2.key -CAfile root-sm2.pem";
    start_with(world, &format!("{own} {words}"))
}

/// Starts `openssl s_server`, which sends every line back reversed.
fn start_with(world: &World, words: &str) -> (Running, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = format!("s_server -accept 127.0.0.1:{port} -tls1_3 -rev -quiet {words}");
    let log = std::fs::File::create(world.dir.join("server.log")).unwrap();
    let mut command = world.openssl(&words);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    (Running(command.spawn().unwrap()), port)
}

fn connect(dir: &Path, port: u16) -> TcpStream {
    let until = Instant::now() + WAIT;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("{error}"),
        }
        let log = || std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
        assert!(Instant::now() < until, "s_server does not listen\n{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn we_call_openssl_in_both_suites_and_after_a_retry() {
    let world = World::new("service");
    for suite in SUITES {
        let words = format!("-ciphersuites {suite} -groups curveSM2 -sigalgs sm2sig_sm3");
        let (_running, port) = start(&world, &words);
        for (national, kind) in [
            (National::Prefer, HandshakeKind::Full),
            (National::Only, HandshakeKind::Full),
            (National::Allow, HandshakeKind::FullWithHelloRetryRequest),
        ] {
            let mut stream = connect(&world.dir, port);
            bound(&stream);
            let attempt = world.client(national).attempt();
            let name = ServerName::try_from("gateway.test").unwrap();
            let mut client = ClientConnection::new(Arc::clone(&attempt.config), name).unwrap();
            while client.is_handshaking() {
                client.complete_io(&mut stream).unwrap();
            }
            let seen = attempt.finish(&client).expect("one stack");
            assert_eq!((seen.suite, seen.group, seen.stack), (suite, "curveSM2", Stack::National));
            assert_eq!(client.handshake_kind(), Some(kind), "{national:?}");
            let mut tls = rustls::Stream::new(&mut client, &mut stream);
            tls.write_all(b"hello\n").unwrap();
            let mut line = [0; 6];
            tls.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"olleh\n");
        }
    }
}

/// A program that says something and waits on, in place of a peer.
fn idle(script: &str) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
    Running(command.stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn a_program_that_ends_is_told_with_all_that_it_said() {
    let (status, told) = told_by(idle("echo one; echo two >&2; exit 3"));
    assert_eq!((status.code(), told.as_str()), (Some(3), "one\ntwo\n"));
}

#[test]
fn a_caller_that_ends_before_its_hello_is_an_error_and_no_endless_wait() {
    let world = World::new("early");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // The first bytes of a record of a handshake, and no more.
    (&caller).write_all(&[22, 3, 1]).unwrap();
    drop(caller);
    let (stream, _) = listener.accept().unwrap();
    let seen = serve(&world.server(National::Prefer), stream);
    assert_eq!(seen.unwrap_err(), "it ended in its ClientHello");
}
