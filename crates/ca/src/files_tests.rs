//! Registers that were lost, cut or put back, and files that must not be overwritten.

use std::fs;
use std::path::Path;

use moat_model::Code;
use moat_model::code::ca as codes;

use crate::book::{Book, REGISTER_BYTES_MAX};
use crate::{
    Authority, Kind, LeafRequest, Level, NameHash, Question, Reason, Register, Revocation, Serial,
    Window, first_certificate, request,
};

/// 2026-01-01.
const NOW_S: i64 = 1_767_225_600;
const WEEK: Window = Window { from_s: NOW_S, length_s: 7 * 86_400 };
const REVOKED: Revocation = Revocation { at_s: NOW_S, reason: Reason::KeyCompromise };

#[track_caller]
fn assert_code<T>(result: Result<T, crate::Error>, code: &Code) {
    match result {
        Ok(_) => panic!("{} was expected", code.id),
        Err(error) => assert_eq!(error.code.id, code.id, "{error}"),
    }
}

fn wish() -> LeafRequest {
    LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S)
}

fn leaf(authority: &Authority) -> Vec<u8> {
    let chain = authority.issue(&wish()).unwrap().chain_pem;
    first_certificate(chain.as_bytes()).unwrap().to_vec()
}

/// An authority in a folder, with one certificate revoked and listed.
fn listed(dir: &Path) -> (Authority, Serial) {
    let authority = Authority::create("Test", NOW_S).unwrap();
    crate::save(&authority, dir).unwrap();
    let mut register = crate::open_issuing(dir, &authority).unwrap();
    register.enter(&leaf(&authority)).unwrap();
    let serial = register.enter(&leaf(&authority)).unwrap();
    register.revoke(&serial, REVOKED).unwrap();
    let (list, path) =
        crate::write_list(&authority, Level::Issuing, &mut register, WEEK, (dir, None), false)
            .unwrap();
    assert_eq!((list.number, path), (1, dir.join("issuing.crl")));
    (authority, serial)
}

fn open(dir: &Path) -> Result<Register, crate::Error> {
    Register::open(dir, Kind::P256, Level::Issuing)
}

#[test]
fn a_register_is_there_from_the_beginning_and_lost_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, serial) = listed(dir.path());
    let register = dir.path().join("issuing.register");
    let whole = fs::read(&register).unwrap();
    for name in ["root.register", "root.register.lock", "issuing.register.lock"] {
        assert!(dir.path().join(name).exists(), "{name}");
    }
    // Deleted, a link to nowhere, a folder.
    fs::remove_file(&register).unwrap();
    assert_code(open(dir.path()), &codes::REGISTER);
    assert_code(crate::open_issuing(dir.path(), &authority), &codes::REGISTER);
    assert!(!register.exists(), "it did not begin anew");
    std::os::unix::fs::symlink("nowhere", &register).unwrap();
    assert_code(open(dir.path()), &codes::REGISTER);
    fs::remove_file(&register).unwrap();
    fs::create_dir(&register).unwrap();
    assert_code(open(dir.path()), &codes::REGISTER);
    fs::remove_dir(&register).unwrap();
    // With the lock lost, too, the list shows that there was a register.
    let lock = dir.path().join("issuing.register.lock");
    fs::remove_file(&lock).unwrap();
    assert_code(open(dir.path()), &codes::REGISTER);
    // With the list lost the lock shows it.
    fs::rename(dir.path().join("issuing.crl"), dir.path().join("old.crl")).unwrap();
    assert!(lock.exists());
    assert_code(open(dir.path()), &codes::REGISTER);
    // Put back it serves.
    fs::write(&register, whole).unwrap();
    assert!(open(dir.path()).unwrap().find(&serial).unwrap().revoked.is_some());
}

#[test]
fn a_folder_that_cannot_be_looked_into_has_no_empty_register() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_code(open(&file), &codes::UNREADABLE);
}

#[test]
fn a_register_cut_at_any_byte_or_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    listed(dir.path());
    let path = dir.path().join("issuing.register");
    let whole = fs::read_to_string(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole.as_bytes()[..length]).unwrap();
        assert_code(open(dir.path()), &codes::REGISTER);
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone().into_bytes();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        assert_code(open(dir.path()), &codes::REGISTER);
    }
    fs::write(&path, format!("{whole}\n")).unwrap();
    assert_code(open(dir.path()), &codes::REGISTER);
    fs::write(&path, &whole).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_sealed_register_with_lines_that_are_not_ours_is_refused() {
    let good = "moat register 2\ncrl 1\nissued 01 1 x\nrevoked 02 1 x 1 superseded\n";
    let sealed = Book::sealed(good);
    assert_eq!(Book::read(&sealed).unwrap().text(), sealed);
    for wrong in [
        "",
        "moat register 1\ncrl 1\n",
        "moat register 2\n",
        "moat register 2\nissued 01 1 x\n",
        "moat register 2\ncrl x\n",
        "moat register 2\ncrl 01\n",
        "moat register 2\ncrl 1\ncrl 1\n",
        "moat register 2\ncrl 1\nissued 00 1 x\n",
        "moat register 2\ncrl 1\nissued zz 1 x\n",
        "moat register 2\ncrl 1\nissued 1 1 x\n",
        "moat register 2\ncrl 1\nissued 0A 1 x\n",
        "moat register 2\ncrl 1\nissued 01 +1 x\n",
        "moat register 2\ncrl 1\nissued 01 1 x y\n",
        "moat register 2\ncrl 1\nissued 01 1 x\nissued 01 1 x\n",
        "moat register 2\ncrl 1\nissued 02 1 x\nissued 01 1 x\n",
        "moat register 2\ncrl 1\nrevoked 01 1 x 1 because\n",
        "moat register 2\ncrl 1\nrevoked 01 1 x 1 Superseded\n",
        "moat register 2\ncrl 1\n\n",
        "moat register 2\ncrl 1\r\n",
        sealed.as_str(),
    ] {
        assert!(Book::read(&Book::sealed(wrong)).is_err(), "{wrong}");
        assert!(Book::read(wrong).is_err() || wrong == sealed, "{wrong}");
    }
    assert!(Book::read(good).is_err(), "without its end");
}

#[test]
fn a_register_older_than_its_list_serves_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, serial) = listed(dir.path());
    let path = dir.path().join("issuing.register");
    let newest = fs::read_to_string(&path).unwrap();
    let resealed = |body: &str| {
        let body: Vec<_> = body.lines().filter(|line| !line.starts_with("end ")).collect();
        fs::write(&path, Book::sealed(&format!("{}\n", body.join("\n")))).unwrap();
        crate::open_issuing(dir.path(), &authority)
    };
    assert!(resealed(&newest).is_ok());
    // A lower number, though all revocations are there.
    assert_code(resealed(&newest.replace("crl 1", "crl 0")), &codes::REGISTER);
    // The number is right, but the revocation is missing, or only issued.
    let line = newest.lines().find(|line| line.starts_with("revoked")).unwrap();
    assert!(line.contains(&serial.to_string()));
    assert_code(resealed(&newest.replace(&format!("{line}\n"), "")), &codes::REGISTER);
    let issued = line.rsplitn(3, ' ').last().unwrap().replace("revoked", "issued");
    assert_code(resealed(&newest.replace(line, &issued)), &codes::REGISTER);
    // A list elsewhere is held against it, too.
    let moved = dir.path().join("public.crl");
    fs::rename(dir.path().join("issuing.crl"), &moved).unwrap();
    let mut old = resealed(&newest.replace("crl 1", "crl 0")).unwrap();
    let list = |register: &mut Register, out: &Path| {
        crate::write_list(&authority, Level::Issuing, register, WEEK, (dir.path(), Some(out)), true)
    };
    assert_code(list(&mut old, &moved), &codes::REGISTER);
    drop(old);
    let mut new = resealed(&newest).unwrap();
    assert_eq!(list(&mut new, &moved).unwrap().0.number, 2);
    assert_eq!(list(&mut new, &moved).unwrap().0.number, 3, "DER is read, too");
}

#[test]
fn a_revoked_issuing_authority_issues_and_answers_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = listed(dir.path());
    let mut roots = crate::open(dir.path(), &authority, Level::Root).unwrap();
    let before = fs::read(dir.path().join("root.register")).unwrap();
    let issuing = authority.issuing_serial().unwrap();
    roots.revoke(&issuing, REVOKED).unwrap();
    roots.save().unwrap();
    let at = (dir.path(), None);
    crate::write_list(&authority, Level::Root, &mut roots, WEEK, at, false).unwrap();
    drop(roots);
    assert_code(crate::open_issuing(dir.path(), &authority), &codes::ISSUER_REVOKED);
    // Its own list may still be made.
    assert!(crate::open(dir.path(), &authority, Level::Issuing).is_ok());
    // The root's list speaks, too, if an old register is put back.
    fs::write(dir.path().join("root.register"), before).unwrap();
    assert_code(crate::open_issuing(dir.path(), &authority), &codes::REGISTER);
    // A root that does not know it.
    let other = Authority::create("Test", NOW_S).unwrap();
    fs::remove_file(dir.path().join("root.crl")).unwrap();
    assert_code(crate::open_issuing(dir.path(), &other), &codes::REGISTER);
}

#[test]
fn without_the_roots_key_all_but_the_roots_list_works() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, serial) = listed(dir.path());
    fs::remove_file(dir.path().join("root.key")).unwrap();
    assert_code(crate::load(dir.path(), Kind::P256, Some(Level::Root)), &codes::UNREADABLE);
    let online = crate::load(dir.path(), Kind::P256, Some(Level::Issuing)).unwrap();
    assert!(online.root_key_pem.is_none());
    let leaf = leaf(&online);
    let mut register = crate::open_issuing(dir.path(), &online).unwrap();
    register.enter(&leaf).unwrap();
    assert_eq!(online.list(Level::Issuing, &mut register, WEEK).unwrap().number, 2);
    assert_code(online.list(Level::Root, &mut register, WEEK), &codes::BAD_REQUEST);
    // To revoke, and to answer by a responder, no key of the authority is needed.
    let responder = authority.issue_responder(&wish()).unwrap();
    register.enter(&first_certificate(responder.chain_pem.as_bytes()).unwrap()).unwrap();
    fs::remove_file(dir.path().join("issuing.key")).unwrap();
    let keyless = crate::load(dir.path(), Kind::P256, None).unwrap();
    assert_code(keyless.issue(&wish()), &codes::BAD_REQUEST);
    assert_eq!(keyless.level_of(&leaf).unwrap(), Level::Issuing);
    assert!(register.find(&serial).is_some());
    let responder =
        crate::Responder { chain_pem: &responder.chain_pem, key_pem: &responder.key_pem };
    let question = Question {
        certificates: &[leaf.into()],
        hash: NameHash::Sha1,
        window: WEEK,
        responder: Some(responder),
    };
    assert!(keyless.answer(&register, &question).is_ok());
}

#[test]
fn an_authoritys_files_and_keys_are_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = listed(dir.path());
    let all = || {
        let mut files: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let identity = authority.issue(&wish()).unwrap();
    crate::write_identity(&identity, dir.path(), "teller").unwrap();
    let asked = request(Kind::P256, &wish()).unwrap();
    let mut register = crate::open_issuing(dir.path(), &authority).unwrap();
    let certificates = [first_certificate(identity.chain_pem.as_bytes()).unwrap()];
    let question = Question {
        certificates: &certificates,
        hash: NameHash::Sha1,
        window: WEEK,
        responder: None,
    };
    let answer = authority.answer(&register, &question).unwrap();
    let before = all();
    for stem in ["root", "root-sm2", "issuing", "issuing-sm2", "Issuing", "ROOT"] {
        assert_code(crate::write_identity(&identity, dir.path(), stem), &codes::EXISTS);
        assert_code(crate::write_chain(&identity.chain_pem, dir.path(), stem), &codes::EXISTS);
        assert_code(crate::write_request(&asked, dir.path(), stem), &codes::EXISTS);
    }
    for stem in ["", ".", "..", "../pki/issuing", "a/issuing", ".issuing.register"] {
        assert_code(crate::write_identity(&identity, dir.path(), stem), &codes::BAD_REQUEST);
    }
    assert_code(crate::write_request(&asked, dir.path(), "teller"), &codes::EXISTS);
    // Also where the key is not there just now.
    let names = ["root.key", "issuing.key", "issuing.pem", "issuing.register", "root-sm2.key"];
    for name in names.into_iter().chain(["issuing.register.lock", "root.crl", "teller.key"]) {
        let out = dir.path().join(name);
        assert_code(crate::write_answer(&out, &answer), &codes::EXISTS);
        let list = (dir.path(), Some(out.as_path()));
        let list = crate::write_list(&authority, Level::Issuing, &mut register, WEEK, list, false);
        assert_code(list, &codes::EXISTS);
    }
    assert_code(crate::write_answer(&dir.path().join("issuing.crl"), &answer), &codes::EXISTS);
    assert_code(crate::write_answer(&dir.path().join("teller.pem"), &answer), &codes::EXISTS);
    assert!(before == all());
    // Its own kind may follow.
    for _ in 0..2 {
        crate::write_answer(&dir.path().join("teller.ocsp"), &answer).unwrap();
    }
    crate::write_request(&asked, dir.path(), "clerk").unwrap();
    // A new authority takes nobody's place, not even that of a register alone.
    let bare = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("issuing.register"), bare.path().join("issuing.register")).unwrap();
    assert_code(crate::save(&authority, bare.path()), &codes::EXISTS);
    assert_eq!(fs::read_dir(bare.path()).unwrap().count(), 1);
}

#[test]
fn a_full_register_issues_no_more_but_revokes_everything() {
    let authority = Authority::create("Test", NOW_S).unwrap();
    let most = 2_000;
    let mut book = Book::default();
    let mut serials = Vec::new();
    let refused = loop {
        match book.enter(&leaf(&authority), most) {
            Ok(serial) => serials.push(serial),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code.id, codes::REGISTER.id);
    assert!(serials.len() > 5);
    book.list_number = u64::MAX;
    let longest = Reason::ALL.into_iter().max_by_key(|(.., name)| name.len()).unwrap().0;
    for serial in &serials {
        book.revoke(serial, Revocation { at_s: i64::MIN, reason: longest }).unwrap();
    }
    let text = book.text();
    assert!(text.len() <= most, "{}", text.len());
    assert!(most < REGISTER_BYTES_MAX);
    assert_eq!(Book::read(&text), Ok(book));
}

#[test]
fn a_number_that_was_given_is_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("Test", NOW_S).unwrap();
    crate::save(&authority, dir.path()).unwrap();
    let mut register = crate::open_issuing(dir.path(), &authority).unwrap();
    let leaf = leaf(&authority);
    let serial = register.enter(&leaf).unwrap();
    assert_code(register.enter(&leaf), &codes::BAD_REQUEST);
    register.revoke(&serial, REVOKED).unwrap();
    assert_code(register.enter(&leaf), &codes::BAD_REQUEST);
    assert_eq!(register.issued(&leaf).unwrap(), serial, "what was issued is known");
}

#[test]
fn a_file_is_read_into_one_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.key");
    fs::write(&path, vec![b'x'; 5_000]).unwrap();
    let bytes = crate::read_file(&path).unwrap();
    // A buffer that grew would have doubled, and left its beginning behind.
    assert!(bytes.capacity() < 2 * bytes.len(), "{}", bytes.capacity());
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_code(crate::read_text(&path), &codes::UNREADABLE);
    fs::write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    assert_code(crate::read_file(&path), &codes::UNREADABLE);
}
