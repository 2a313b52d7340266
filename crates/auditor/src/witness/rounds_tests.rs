//! Witnesses of the protocol, one that is away and ones that lie, without a network.

use moat_net::carriage::Answered;
use moat_tlog::growth::Edge;
use moat_tlog::key::{Algorithm, KeyName};
use moat_tlog::sign::{Ed25519Signer, Signer};
use moat_tlog::witness::{Refusal, SIZE_CONTENT_TYPE};
use moat_tlog::{Head, Sha256, TreeHash as _};

use super::*;

const ORIGIN: &str = "pay.bank.test/audit";
const SECOND: u64 = 1_000_000_000;

fn log() -> Ed25519Signer {
    let name = KeyName::new(ORIGIN).unwrap();
    Ed25519Signer::from_seed(name, Algorithm::Ed25519, &[1; 32]).unwrap()
}

fn key(n: u8) -> Ed25519Signer {
    let name = KeyName::new(&format!("w{n}.test")).unwrap();
    Ed25519Signer::from_seed(name, Algorithm::CosignatureV1, &[n + 10; 32]).unwrap()
}

fn leaf(n: u64) -> Hash {
    Sha256::leaf(&n.to_be_bytes())
}

fn head(size: u64) -> Head {
    let mut edge = Edge::<Sha256>::new();
    (0..size).for_each(|n| edge.push(leaf(n), &mut Vec::new()).unwrap());
    Head { size, root: edge.root() }
}

fn signed(size: u64) -> SignedCheckpoint {
    Checkpoint::new(ORIGIN, head(size)).unwrap().sign(&[&log()]).unwrap()
}

/// Proofs of the tree whose leaves are all in tiles of their own making.
fn prove(old: u64, size: u64) -> Option<Vec<Hash>> {
    if old == 0 || old == size {
        return Some(Vec::new());
    }
    let mut edge = Edge::<Sha256>::new();
    let mut tiles = Vec::new();
    (0..size).for_each(|n| edge.push(leaf(n), &mut tiles).unwrap());
    tiles.extend(edge.partial());
    let read = |tile: moat_tlog::tile::Tile| {
        tiles.iter().find(|(one, _)| *one == tile).map(|(_, bytes)| bytes.clone()).ok_or(())
    };
    moat_tlog::tree::Tree::<Sha256, _>::new(size, read).ok()?.consistency(old).ok()
}

fn answered(status: u16, content_type: &str, body: impl Into<String>) -> Answered {
    Answered { status, content_type: content_type.to_owned(), body: body.into() }
}

/// A witness of the protocol.
struct Honest {
    key: Ed25519Signer,
    last: Option<Head>,
}

impl Honest {
    fn answer(&mut self, body: &str) -> Result<Answered, String> {
        let mut cosign = || -> Result<String, Refusal> {
            let vetted = Request::parse(body.as_bytes())?.vet(&[log().key().clone()], &AwsLc)?;
            let next = *vetted.request().signed().checkpoint().head();
            let stored =
                vetted.compare::<Sha256>(self.last)?.store(|_, _| Ok::<_, ()>(())).unwrap();
            self.last = Some(next);
            Ok(stored.cosign(&[&self.key as &dyn Signer], 1_800_000_000).unwrap())
        };
        Ok(match cosign() {
            Ok(lines) => answered(200, "text/plain", lines),
            Err(refusal) => answered(refusal.status(), refusal.content_type(), refusal.body()),
        })
    }
}

type Party = Box<dyn FnMut(&str) -> Result<Answered, String>>;

fn honest(n: u8) -> Party {
    knows(n, None)
}

fn knows(n: u8, last: Option<Head>) -> Party {
    let mut witness = Honest { key: key(n), last };
    Box::new(move |body| witness.answer(body))
}

fn says(answer: Result<Answered, String>) -> Party {
    Box::new(move |_| answer.clone())
}

struct Trial {
    rounds: Rounds,
    parties: Vec<Party>,
    now_ns: u64,
}

impl Trial {
    fn new(k: usize, parties: Vec<Party>) -> Trial {
        let keys: Vec<_> = (0..parties.len()).map(|n| key(n as u8).key().clone()).collect();
        let policy = Policy::k_of_n(&[log().key().clone()], &keys, k).unwrap().to_string();
        // Each has an address, which only the courier looks at.
        let with_url = policy.lines().map(|line| match line.strip_prefix("witness") {
            Some(_) => format!("{line} http://127.0.0.1:1\n"),
            None => format!("{line}\n"),
        });
        let policy = Policy::parse(with_url.collect::<String>().as_bytes()).unwrap();
        Trial { rounds: Rounds::new(policy, 0), parties, now_ns: 1 }
    }

    /// Asks and answers for so long; gives how many questions there were.
    fn run(&mut self, seconds: u64) -> usize {
        let (until_ns, mut asked) = (self.now_ns + seconds * SECOND, 0);
        while self.now_ns < until_ns {
            for ask in self.rounds.ask(self.now_ns, prove) {
                asked += 1;
                let answer = self.parties[ask.witness](&ask.body);
                self.rounds.hear(&Got { id: ask.id, witness: ask.witness, answer }, self.now_ns);
            }
            self.now_ns += SECOND / 100;
        }
        asked
    }

    fn size(&self) -> u64 {
        self.rounds.witnessed().map_or(0, |signed| signed.checkpoint().size())
    }

    fn state(&self, n: usize) -> String {
        self.rounds.status()[n]["state"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_log_that_grows_is_followed_with_one_question_a_checkpoint() {
    let mut trial = Trial::new(2, vec![honest(0), honest(1), honest(2)]);
    for size in [0, 1, 2, 300, 300, 700] {
        trial.rounds.offer(signed(size));
        let asked = trial.run(1);
        assert_eq!(trial.size(), size);
        assert!(asked <= 3, "{asked} for {size}");
        assert!(trial.rounds.is_cleared() && !trial.rounds.is_disputed());
    }
    let lines = trial.rounds.witnessed().unwrap().note().signatures().len();
    assert_eq!(lines, 4, "the log and all three");
}

#[test]
fn a_witness_that_knows_another_size_is_asked_again_from_there() {
    let mut trial = Trial::new(1, vec![knows(0, Some(head(7)))]);
    trial.rounds.offer(signed(300));
    assert_eq!(trial.run(1), 2);
    assert_eq!(trial.size(), 300);
}

#[test]
fn one_away_and_one_liar_are_left_out_and_named() {
    let away = || says(Err("connection refused".to_owned()));
    for (liar, state) in [
        (says(Ok(answered(200, "", key_line(9)))), "wrong"),
        (says(Ok(answered(409, SIZE_CONTENT_TYPE, "999\n"))), "ahead"),
        (says(Ok(answered(422, "", ""))), "disagrees"),
        (says(Ok(answered(409, SIZE_CONTENT_TYPE, "0\n"))), "refused"),
        (says(Ok(answered(200, "", "nonsense"))), "unreachable"),
        (says(Ok(answered(500, "", ""))), "refused"),
    ] {
        let mut trial = Trial::new(2, vec![honest(0), honest(1), liar, away()]);
        trial.rounds.offer(signed(5));
        let asked = trial.run(30);
        assert_eq!(
            (trial.size(), trial.state(2), trial.state(3)),
            (5, state.to_owned(), "unreachable".to_owned())
        );
        assert!(asked < 60, "they are not asked all the time: {asked}");
        assert!(trial.rounds.is_cleared() && trial.rounds.rolled_back().is_none());
        let is_dispute = matches!(state, "wrong" | "ahead" | "disagrees");
        assert_eq!(trial.rounds.is_disputed(), is_dispute, "{state}");
        trial.rounds.offer(signed(6));
        trial.run(1);
        assert_eq!(trial.size(), 6);
    }
}

/// A cosignature by another key over another tree.
fn key_line(n: u8) -> String {
    let line = moat_tlog::cosignature::cosign(signed(1).checkpoint(), &key(n), 1).unwrap();
    format!("{line}\n")
}

#[test]
fn too_few_are_no_quorum_and_enough_are_one_as_soon_as_they_are_back() {
    let mut trial = Trial::new(2, vec![honest(0), says(Err("away".to_owned()))]);
    trial.rounds.offer(signed(5));
    trial.run(10);
    assert_eq!((trial.size(), trial.rounds.is_cleared()), (0, false));
    trial.parties[1] = honest(1);
    trial.rounds.offer(signed(8));
    trial.run(6);
    assert_eq!((trial.size(), trial.rounds.is_cleared()), (8, true));
}

#[test]
fn witnesses_that_saw_more_than_there_is_say_that_the_log_was_put_back() {
    let ahead = |n| knows(n, Some(head(20)));
    let mut trial = Trial::new(2, vec![ahead(0), ahead(1), honest(2)]);
    trial.rounds.offer(signed(5));
    trial.run(1);
    assert_eq!(trial.size(), 0);
    let (seen, by) = trial.rounds.rolled_back().unwrap();
    assert_eq!((seen, by.as_str()), (20, "w0.test (20), w1.test (20)"));
    assert!(!trial.rounds.is_cleared());
}

#[test]
fn an_answer_that_was_not_asked_for_or_comes_twice_changes_nothing() {
    let mut trial = Trial::new(1, vec![honest(0)]);
    trial.rounds.offer(signed(5));
    let ask = trial.rounds.ask(1, prove).remove(0);
    let answer = trial.parties[0](&ask.body);
    for (id, witness) in [(ask.id + 1, 0), (ask.id, 1), (ask.id, 99)] {
        assert!(!trial.rounds.hear(&Got { id, witness, answer: answer.clone() }, 1));
    }
    let got = Got { id: ask.id, witness: 0, answer };
    assert!(trial.rounds.hear(&got, 1));
    assert!(!trial.rounds.hear(&got, 1));
}

#[test]
fn no_answer_ever_and_a_courier_that_dies_are_survived() {
    let mut trial = Trial::new(1, vec![honest(0)]);
    trial.rounds.offer(signed(5));
    assert_eq!(trial.rounds.ask(1, prove).len(), 1);
    assert_eq!(trial.rounds.ask(9 * SECOND, prove).len(), 0);
    assert_eq!(trial.rounds.ask(11 * SECOND, prove).len(), 0, "a pause first");
    assert_eq!(trial.rounds.ask(12 * SECOND, prove).len(), 1);
    trial.rounds.lose_courier(12 * SECOND);
    assert_eq!(trial.state(0), "unreachable");
    trial.now_ns = 13 * SECOND;
    trial.run(5);
    assert_eq!(trial.size(), 5);
}
