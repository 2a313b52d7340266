//! One token by PKCS#11: found by its label, logged into once, its keys found by theirs.
//!
//! The maker's library does what it likes with this process; that is why it is one of its own.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

/// OID of Ed25519 (RFC 8410) as DER, for CKA_EC_PARAMS.
const OID_ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// The name of the curve as DER, which older libraries want in its place (PKCS #11 v3.0 §2.3.5).
const NAME_ED25519: &[u8] = b"\x13\x0cedwards25519";

/// What is needed to log into a token.
pub(crate) struct Access<'a> {
    pub(crate) module: &'a Path,
    /// The token's label.
    pub(crate) token: &'a str,
    pub(crate) pin: &'a Zeroizing<String>,
}

/// A token that was logged into.
pub(crate) struct Token {
    session: Session,
    // Dropped after the session, and with it the library's state: a token that comes back is then
    // seen by the next one.
    library: Pkcs11,
}

impl Token {
    /// Loads the library and logs into the token, to read and sign, or to make keys as well.
    pub(crate) fn open(access: &Access<'_>, is_writing: bool) -> Result<Token> {
        let Access { module, token, pin } = access;
        let library = Pkcs11::new(module).with_context(|| module.display().to_string())?;
        library
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .context("the library cannot be initialized")?;
        let slots = library.get_slots_with_token().context("the tokens cannot be listed")?;
        let is_it = |slot| library.get_token_info(slot).is_ok_and(|info| info.label() == *token);
        let Some(slot) = slots.into_iter().find(|slot| is_it(*slot)) else {
            let _ = library.finalize();
            bail!("there is no token `{token}`");
        };
        let session =
            if is_writing { library.open_rw_session(slot) } else { library.open_ro_session(slot) };
        let session = session.context("no session with the token")?;
        let pin = AuthPin::new(pin.as_str().into());
        session.login(UserType::User, Some(&pin)).context("the token does not take the PIN")?;
        Ok(Token { session, library })
    }

    fn find(&self, class: ObjectClass, label: &str) -> Result<ObjectHandle> {
        let template = [Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())];
        match self.session.find_objects(&template)?.as_slice() {
            [one] => Ok(*one),
            [] => bail!("the token has no key `{label}`"),
            _ => bail!("the token has several keys `{label}`"),
        }
    }

    /// Signs with an Ed25519 key (CKM_EDDSA, pure).
    pub(crate) fn sign(&self, label: &str, message: &[u8]) -> Result<Vec<u8>> {
        let key = self.find(ObjectClass::PRIVATE_KEY, label)?;
        Ok(self.session.sign(&eddsa(), key, message)?)
    }

    /// The public half of an Ed25519 key, 32 bytes.
    pub(crate) fn public(&self, label: &str) -> Result<[u8; 32]> {
        let key = self.find(ObjectClass::PUBLIC_KEY, label)?;
        let attributes = self.session.get_attributes(key, &[AttributeType::EcPoint])?;
        let Some(Attribute::EcPoint(point)) = attributes.into_iter().next() else {
            bail!("the key `{label}` has no point");
        };
        // An OCTET STRING around it, or the bytes themselves, as the library likes.
        let bytes = point.strip_prefix(&[0x04, 0x20]).filter(|rest| rest.len() == 32);
        let bytes = bytes.unwrap_or(&point);
        bytes.try_into().ok().with_context(|| format!("the key `{label}` is none of Ed25519"))
    }

    /// Makes an Ed25519 key that never leaves the token.
    pub(crate) fn generate(&self, label: &str) -> Result<()> {
        if self.find(ObjectClass::PRIVATE_KEY, label).is_ok() {
            bail!("the token has a key `{label}` already");
        }
        let made = self.generate_by(label, &OID_ED25519);
        made.or_else(|_| self.generate_by(label, NAME_ED25519)).context("no key was made")
    }

    fn generate_by(&self, label: &str, curve: &[u8]) -> cryptoki::error::Result<()> {
        let name = Attribute::Label(label.as_bytes().to_vec());
        let public = [
            Attribute::Token(true),
            Attribute::Verify(true),
            Attribute::EcParams(curve.to_vec()),
            name.clone(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            name,
        ];
        let mechanism = Mechanism::EccEdwardsKeyPairGen;
        self.session.generate_key_pair(&mechanism, &public, &private).map(drop)
    }

    /// Gives the library up, so that the next one begins anew.
    pub(crate) fn close(self) {
        let Token { session, library } = self;
        drop(session);
        // It may have failed for good; the next one says so.
        let _ = library.finalize();
    }
}

fn eddsa() -> Mechanism<'static> {
    Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519))
}
