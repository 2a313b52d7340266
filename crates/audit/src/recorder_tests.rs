use super::*;
use crate::record::Kind;
use tokio::task::LocalSet;

const SOON: Duration = Duration::from_millis(40);
const LONG: Duration = Duration::from_secs(10);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

async fn hello(theirs: &mut UnixStream) {
    let key = AnchorKey::new("k1", Zeroizing::new([6; 32])).unwrap();
    let mut out = Vec::new();
    link::push_hello(&mut out, "log/1", &key);
    theirs.write_all(&out).await.unwrap();
}

async fn linked() -> (Recorder, UnixStream) {
    let recorder = Recorder::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    recorder.attach(ours);
    hello(&mut theirs).await;
    (recorder, theirs)
}

/// Reads `count` commits and answers each with its req_id as seq, last first.
async fn serve(theirs: &mut UnixStream, count: usize) -> usize {
    let (mut held, mut reads, mut seen) = (Vec::with_capacity(1 << 20), 0, Vec::new());
    while seen.len() < count {
        theirs.read_buf(&mut held).await.unwrap();
        reads += 1;
        while let Ok(Some((message, used))) = link::decode(&held) {
            let Message::Commit { req_id, .. } = message else { panic!("no commit") };
            seen.push(req_id);
            held.drain(..used);
        }
    }
    let mut out = Vec::new();
    for req_id in seen.into_iter().rev() {
        link::push_ack(&mut out, req_id, &Ack { seq: req_id, leaf_hash: [1; 32], t_wall_ns: 2 });
    }
    theirs.write_all(&out).await.unwrap();
    reads
}

fn body() -> Body {
    Body::new(Kind::Intent, [1; 16])
}

fn code_of(answer: Result<Receipt, Refusal>) -> &'static str {
    answer.map_or_else(|refusal| refusal.code.id, |_| "receipt")
}

#[test]
fn a_commit_is_answered_with_its_own_receipt() {
    run(async {
        let (recorder, mut theirs) = linked().await;
        let (one, two, _) = tokio::join!(
            recorder.commit(&body(), LONG),
            recorder.commit(&body(), LONG),
            serve(&mut theirs, 2)
        );
        assert_eq!((one.unwrap().seq(), two.unwrap().seq()), (0, 1));
        assert_eq!(recorder.anchors().unwrap().id(), "k1");
        assert_eq!(recorder.log_id().as_deref(), Some("log/1"));
        assert_eq!(recorder.in_flight(), 0);
    });
}

#[test]
fn a_hello_in_pieces_brings_the_link_up() {
    run(async {
        let recorder = Recorder::new();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        recorder.attach(ours);
        let key = AnchorKey::new("k1", Zeroizing::new([6; 32])).unwrap();
        let mut out = Vec::new();
        link::push_hello(&mut out, "log/1", &key);
        for byte in out {
            assert!(!recorder.is_up());
            theirs.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        tokio::time::timeout(LONG, recorder.wait_until_up()).await.unwrap();
        assert_eq!(recorder.anchors().unwrap().secret(), &[6; 32]);
    });
}

#[test]
fn what_is_read_never_moves_to_another_buffer() {
    let mut unread = Vec::with_capacity(UNREAD_BYTES_MAX);
    let place = unread.as_ptr();
    // The longest message but for its last byte, again and again, each time with a whole read.
    let longest = u32::try_from(link::MESSAGE_BYTES_MAX).unwrap().to_be_bytes();
    for _ in 0..3 {
        unread.extend_from_slice(&longest);
        unread.resize(longest.len() + link::MESSAGE_BYTES_MAX - 1, 2);
        assert!(matches!(link::decode(&unread), Ok(None)));
        forget(&mut unread, 0);
        assert!(unread.capacity() - unread.len() >= READ_BYTES);
        unread.resize(unread.len() + READ_BYTES, 2);
        let used = unread.len();
        forget(&mut unread, used);
        assert_eq!((unread.as_ptr(), unread.len()), (place, 0));
    }
}

#[test]
fn commits_of_one_tick_go_out_together() {
    run(async {
        let (recorder, mut theirs) = linked().await;
        tokio::time::sleep(SOON).await;
        let commits: Vec<_> = (0..100)
            .map(|_| {
                let recorder = recorder.clone();
                tokio::task::spawn_local(async move { recorder.commit(&body(), LONG).await })
            })
            .collect();
        assert_eq!(serve(&mut theirs, 100).await, 1, "one write, one read");
        for commit in commits {
            assert!(commit.await.unwrap().is_ok());
        }
    });
}

#[test]
fn without_an_auditor_a_commit_waits_for_one_until_its_deadline() {
    run(async {
        let recorder = Recorder::new();
        assert_eq!(code_of(recorder.commit(&body(), SOON).await), codes::AUDITOR_AWAY.id);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let late = async {
            tokio::time::sleep(SOON).await;
            recorder.attach(ours);
            hello(&mut theirs).await;
            serve(&mut theirs, 1).await
        };
        let (answer, _) = tokio::join!(recorder.commit(&body(), LONG), late);
        assert!(answer.is_ok());
    });
}

#[test]
fn a_silent_auditor_costs_the_deadline_and_a_lost_link_less() {
    run(async {
        let (recorder, theirs) = linked().await;
        assert_eq!(code_of(recorder.commit(&body(), SOON).await), codes::COMMIT_DEADLINE.id);
        let gone = async {
            tokio::time::sleep(SOON).await;
            drop(theirs);
        };
        let (answer, ()) = tokio::join!(recorder.commit(&body(), LONG), gone);
        assert_eq!(code_of(answer), codes::AUDITOR_AWAY.id);
        assert!(!recorder.is_up());
    });
}

#[test]
fn a_new_link_replaces_the_old_one() {
    run(async {
        let (recorder, old) = linked().await;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let replace = async {
            tokio::time::sleep(SOON).await;
            recorder.attach(ours);
            hello(&mut theirs).await;
        };
        let (answer, ()) = tokio::join!(recorder.commit(&body(), LONG), replace);
        assert_eq!(code_of(answer), codes::AUDITOR_AWAY.id);
        let (answer, _) = tokio::join!(recorder.commit(&body(), LONG), serve(&mut theirs, 1));
        assert!(answer.is_ok());
        drop(old);
    });
}

#[test]
fn refusals_carry_their_codes() {
    run(async {
        let (recorder, mut theirs) = linked().await;
        let long = Body::admin("x".repeat(65_100));
        assert_eq!(code_of(recorder.commit(&long, LONG).await), codes::LEAF_TOO_LONG.id);
        let wrong = Body::new(Kind::Outcome, [1; 16]);
        assert_eq!(code_of(recorder.commit(&wrong, LONG).await), codes::BAD_RECORD.id);
        let mut out = Vec::new();
        link::push_nack(&mut out, 0, Nack::DiskFull);
        let nack = async {
            tokio::time::sleep(SOON).await;
            theirs.write_all(&out).await.unwrap();
        };
        let (answer, ()) = tokio::join!(recorder.commit(&body(), LONG), nack);
        assert_eq!(code_of(answer), codes::DISK_FULL.id);
    });
}

#[test]
fn the_queue_has_a_bound() {
    run(async {
        let (recorder, theirs) = linked().await;
        let commits: Vec<_> = (0..LINK_IN_FLIGHT_MAX)
            .map(|_| {
                let recorder = recorder.clone();
                tokio::task::spawn_local(async move { recorder.commit(&body(), LONG).await })
            })
            .collect();
        while recorder.in_flight() < LINK_IN_FLIGHT_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(code_of(recorder.commit(&body(), LONG).await), codes::QUEUE_FULL.id);
        drop(theirs);
        for commit in commits {
            assert!(commit.await.unwrap().is_err());
        }
    });
}

#[test]
fn a_peer_that_speaks_otherwise_is_cut_off() {
    run(async {
        let (recorder, mut theirs) = linked().await;
        tokio::time::sleep(SOON).await;
        assert!(recorder.is_up());
        hello(&mut theirs).await;
        tokio::time::sleep(SOON).await;
        assert!(!recorder.is_up(), "a second hello");
    });
}

#[test]
fn answers_find_their_places_in_any_order_and_numbers_never_come_again() {
    let mut waiting = Waiting::default();
    let receivers: Vec<_> = (0..4).map(|_| waiting.push().unwrap()).collect();
    let numbers: Vec<u64> = receivers.iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers, waiting.taken), (vec![0, 1, 2, 3], 4));
    assert!(waiting.take(1).is_some() && waiting.take(1).is_none() && waiting.take(9).is_none());
    assert_eq!((waiting.places.len(), waiting.taken), (4, 3), "the first still waits");
    assert!(waiting.take(0).is_some() && waiting.take(0).is_none());
    assert_eq!((waiting.first, waiting.places.len(), waiting.taken), (2, 2, 2));
    waiting.clear();
    assert_eq!(waiting.push().unwrap().0, 4);
    assert!(waiting.take(2).is_none());
    let most: Vec<_> = core::iter::from_fn(|| waiting.push()).collect();
    assert_eq!(most.len() + 1, LINK_IN_FLIGHT_MAX);
}
