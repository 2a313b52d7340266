//! The role: takes checkpoints from the auditor, has the token sign them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use moat_net::carriage::{self, Sign, Signed};
use moat_net::control::Channel;
use moat_tlog::Head;
use moat_tlog::checkpoint::Checkpoint;
use zeroize::Zeroizing;

use crate::token::{Access, Token};

/// How long a call of the library may take. One that hangs ends the process; the supervisor starts
/// another.
const CALL_MAX: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Most origins of which the last checkpoint is remembered: a log has two.
const ORIGINS_MAX: usize = 64;

/// Since when the library has been at work.
type Busy = Arc<Mutex<Option<Instant>>>;

/// Signs for each auditor that comes, until the supervisor goes away or says stop.
pub(crate) fn run(module: &Path, token: &str, pin: &Zeroizing<String>) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let control = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    let busy = Busy::default();
    let watched = Arc::clone(&busy);
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || watch(&watched))?;
    let access = Access { module, token, pin };
    let state = Mutex::new(State { access, token: None, signed: BTreeMap::new(), busy });
    control.send(br#"{"ready":{}}"#, &[])?;
    std::thread::scope(|scope| {
        while let Some((_, fds)) = control.recv()? {
            // A message without a descriptor is the word to stop.
            if fds.is_empty() {
                std::process::exit(0);
            }
            for fd in fds {
                let state = &state;
                scope.spawn(move || serve(&Channel::from_fd(fd), state));
            }
        }
        // The threads hang on auditors that may outlive the supervisor.
        std::process::exit(0);
    })
}

fn watch(busy: &Busy) {
    loop {
        std::thread::sleep(LOOK);
        let since = *busy.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some_and(|since| since.elapsed() > CALL_MAX) {
            eprintln!("moat-hsm: the token does not answer");
            std::process::exit(1);
        }
    }
}

/// Answers one auditor until it ends.
fn serve(auditor: &Channel, state: &Mutex<State<'_>>) {
    while let Ok(Some(Sign { id, label, message })) = carriage::receive::<Sign>(auditor) {
        let signature = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.sign(&label, &message)
        };
        if let Err(error) = &signature {
            eprintln!("moat-hsm: {error}");
        }
        if carriage::send(auditor, &Signed { id, signature }).is_err() {
            return;
        }
    }
}

struct State<'a> {
    access: Access<'a>,
    token: Option<Token>,
    /// The last checkpoint of each key and origin.
    signed: BTreeMap<(String, String), Head>,
    busy: Busy,
}

impl State<'_> {
    fn sign(&mut self, label: &str, message: &str) -> Result<String, String> {
        let checkpoint = Checkpoint::parse(message).map_err(|_| "this is no checkpoint")?;
        let (of, head) = ((label.to_owned(), checkpoint.origin().to_owned()), *checkpoint.head());
        let is_back = |last: &Head| {
            head.size < last.size || (head.size == last.size && head.root != last.root)
        };
        if self.signed.get(&of).is_some_and(is_back) {
            return Err("another or a larger checkpoint was signed before".to_owned());
        }
        if self.signed.len() >= ORIGINS_MAX && !self.signed.contains_key(&of) {
            return Err("too many logs".to_owned());
        }
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let signature = self.by_token(label, message.as_bytes());
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let signature = signature.map_err(|error| format!("{error:#}"))?;
        self.signed.insert(of, head);
        Ok(HEXLOWER.encode(&signature))
    }

    /// One session is kept; after any failure the next try begins with the library.
    fn by_token(&mut self, label: &str, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let token = match self.token.take() {
            Some(token) => token,
            None => Token::open(&self.access, false)?,
        };
        match token.sign(label, message) {
            Ok(signature) => {
                self.token = Some(token);
                Ok(signature)
            }
            Err(error) => {
                token.close();
                Err(error)
            }
        }
    }
}
