use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;

/// An answer to `question` with these records: owner as it stands, kind, TTL, data.
fn answer(question: &[u8], code: u8, records: &[(&[u8], u16, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2] = 0x81;
    bytes[3] = 0x80 | code;
    bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    for (owner, kind, ttl, data) in records {
        bytes.extend_from_slice(owner);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&INTERNET.to_be_bytes());
        bytes.extend_from_slice(&ttl.to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

/// The name of the question.
const OWNER: &[u8] = &[192, 12];

fn asked() -> Vec<u8> {
    question("Accounts.bank.test", Kind::A, 0x1234).unwrap()
}

fn addresses(found: &Found) -> Vec<String> {
    found.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn a_question_is_what_rfc_1035_asks_for() {
    let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
        \x08accounts\x04bank\x04test\x00\x00\x01\x00\x01";
    assert_eq!(asked(), expected);
    for bad in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(130)] {
        assert_eq!(question(bad, Kind::A, 1), None, "{bad}");
    }
}

#[test]
fn addresses_are_found_with_the_shortest_of_their_times() {
    let bytes = answer(
        &asked(),
        0,
        &[
            (OWNER, 1, 300, &[10, 0, 0, 1]),
            (OWNER, 1, 60, &[10, 0, 0, 2]),
            (OWNER, 1, 60, &[10, 0, 0, 1]),
        ],
    );
    let found = read(&asked(), &bytes).unwrap();
    assert_eq!((addresses(&found), found.ttl_s), (vec!["10.0.0.1".into(), "10.0.0.2".into()], 60));
}

#[test]
fn aliases_are_followed_within_the_answer_in_any_order_and_not_in_circles() {
    let (b, c) = (b"\x01b\x00".as_slice(), b"\x01c\x00".as_slice());
    let bytes = answer(
        &asked(),
        0,
        &[(c, 1, 500, &[10, 0, 0, 9]), (OWNER, CNAME, 30, b), (b, CNAME, 400, c)],
    );
    let found = read(&asked(), &bytes).unwrap();
    assert_eq!((addresses(&found), found.ttl_s), (vec!["10.0.0.9".to_owned()], 30));
    let circle = answer(&asked(), 0, &[(OWNER, CNAME, 30, b), (b, CNAME, 30, b)]);
    assert_eq!(read(&asked(), &circle).unwrap(), Found::default());
    let foreign = answer(&asked(), 0, &[(b, 1, 30, &[10, 0, 0, 9])]);
    assert_eq!(read(&asked(), &foreign).unwrap(), Found::default(), "nobody asked for b");
}

#[test]
fn what_does_not_answer_the_question_is_not_believed() {
    let good = answer(&asked(), 0, &[(OWNER, 1, 60, &[10, 0, 0, 1])]);
    assert!(read(&asked(), &good).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        read(&asked(), &bytes)
    };
    for (at, byte) in
        [(0, 9), (2, 0x01), (2, 0x83), (2, 0x91), (5, 2), (13, b'x'), (32, 28), (34, 3)]
    {
        assert!(matches!(with(at, byte), Err(Error::Malformed(_))), "{at}");
    }
    assert!(matches!(with(3, 0x82), Err(Error::Refused(2))));
    assert_eq!(with(3, 0x83).unwrap(), Found::default(), "there is no such name");
}

#[test]
fn a_name_that_jumps_forwards_or_to_itself_is_refused() {
    let end = u8::try_from(asked().len()).unwrap();
    for target in [end, end + 2, 200] {
        let bytes = answer(&asked(), 0, &[(&[192, target], 1, 60, &[10, 0, 0, 1])]);
        assert!(read(&asked(), &bytes).is_err(), "{target}");
    }
}

#[test]
fn no_part_of_an_answer_is_one() {
    let bytes =
        answer(&asked(), 0, &[(OWNER, CNAME, 30, b"\x01b\x00"), (b"\x01b\x00", 1, 1, &[1; 4])]);
    for length in 0..bytes.len() {
        assert!(read(&asked(), &bytes[..length]).is_err(), "{length}");
    }
    assert!(read(&asked(), &bytes).is_ok());
}

#[tokio::test]
async fn a_server_that_fails_is_followed_by_the_next_and_ipv6_comes_second() {
    let (dead, live) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let servers = [dead.local_addr().unwrap(), live.local_addr().unwrap()];
    drop(dead);
    tokio::spawn(async move {
        let (mut stream, _) = live.accept().await.unwrap();
        for _ in 0..2 {
            let length = stream.read_u16().await.unwrap();
            let mut asked = vec![0; usize::from(length)];
            stream.read_exact(&mut asked).await.unwrap();
            let is_six = asked[asked.len() - 3] == 28;
            let six: &[(&[u8], u16, u32, &[u8])] = &[(OWNER, 28, 7, &[0xfd; 16])];
            let bytes = answer(&asked, 0, if is_six { six } else { &[] });
            stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    let found = resolve(&servers, "accounts.bank.test", 7).await.unwrap();
    assert_eq!((found.addresses.len(), found.ttl_s), (1, 7));
    assert!(matches!(resolve(&servers[..1], "a.test", 7).await, Err(Error::Io(_))));
}

proptest! {
    #[test]
    fn nothing_that_is_sent_breaks_it(
        tail in proptest::collection::vec(any::<u8>(), 0..300), count in any::<u16>()
    ) {
        let mut bytes = asked();
        bytes[2] = 0x81;
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        bytes.extend(tail);
        let _ = read(&asked(), &bytes);
        let _ = read(&asked(), &bytes[20..]);
    }
}
