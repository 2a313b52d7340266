//! When national cryptography is used by a side that may have both.

use moat_model::code::tls::IDENTITIES;

use crate::{Error, Material, Stack};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum National {
    /// Never.
    Off,
    /// Where the other side does nothing else.
    Allow,
    /// Wherever the other side does it.
    #[default]
    Prefer,
    /// Always; whoever does not is refused.
    Only,
}

/// The identities of one side, sorted by stack; at least one of them is there.
pub(crate) struct Sides<'a, 'b> {
    pub(crate) international: Option<&'a Material<'b>>,
    pub(crate) national: Option<&'a Material<'b>>,
}

impl Sides<'_, '_> {
    pub(crate) fn count(&self) -> usize {
        usize::from(self.international.is_some()) + usize::from(self.national.is_some())
    }
}

/// Sorts identities by the key of their leaf, and drops what `national` rules out.
pub(crate) fn sides<'a, 'b>(
    identities: &'a [Material<'b>],
    national: National,
) -> Result<Sides<'a, 'b>, Error> {
    let mut sides = Sides { international: None, national: None };
    for identity in identities {
        let (place, what) = match identity.stack()? {
            Stack::International => (&mut sides.international, "international"),
            Stack::National => (&mut sides.national, "SM2"),
        };
        if place.replace(identity).is_some() {
            let why = format!("two {what} identities; one of each kind may be given");
            return Err(Error::new(&IDENTITIES, why));
        }
    }
    match national {
        National::Off => sides.national = None,
        National::Only => sides.international = None,
        National::Allow | National::Prefer => {}
    }
    if sides.count() == 0 {
        let why = "no identity is left for what `national` asks for";
        return Err(Error::new(&IDENTITIES, why));
    }
    Ok(sides)
}
