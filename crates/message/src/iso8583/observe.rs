//! Who wants to know which fields were read or changed. Nobody, `()`, costs nothing.

use moat_model::{Class, Stage};

use super::bitmap::Present;
use crate::spec::Spec;

/// A field, by everything but its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRef {
    /// Its number.
    pub id: u8,
    /// Its class in the spec.
    pub class: Class,
    /// Where its value begins, in bytes of the message; 0 if it was not there before.
    pub offset: u16,
    /// How long its value is, in bytes of the message.
    pub length: u16,
    /// The stage of the exchange.
    pub stage: Stage,
}

/// Is told what happens to fields.
pub trait Observer {
    /// A message was read, and has these fields.
    fn parsed(&mut self, present: Present);
    /// A value was handed out.
    fn read(&mut self, field: FieldRef);
    /// A value was set or removed.
    fn changed(&mut self, field: FieldRef);
}

impl Observer for () {
    #[inline]
    fn parsed(&mut self, _: Present) {}
    #[inline]
    fn read(&mut self, _: FieldRef) {}
    #[inline]
    fn changed(&mut self, _: FieldRef) {}
}

impl<O: Observer> Observer for &mut O {
    #[inline]
    fn parsed(&mut self, present: Present) {
        (**self).parsed(present);
    }
    #[inline]
    fn read(&mut self, field: FieldRef) {
        (**self).read(field);
    }
    #[inline]
    fn changed(&mut self, field: FieldRef) {
        (**self).changed(field);
    }
}

/// What the record wants to know: three sets of fields, no list, no lock, no allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The fields of the message.
    pub present: Present,
    /// Those whose values were handed out.
    pub read: Present,
    /// Those that were set or removed.
    pub changed: Present,
}

impl Touched {
    /// How many fields of each class the message has, in the order of [`Class::ALL`].
    #[must_use]
    pub fn classes(&self, spec: &Spec) -> [u8; 5] {
        Class::ALL.map(|class| {
            let of = |number: &u8| spec.field(*number).is_some_and(|field| field.class() == class);
            u8::try_from(self.present.iter().filter(of).count()).unwrap_or(u8::MAX)
        })
    }
}

impl Observer for Touched {
    #[inline]
    fn parsed(&mut self, present: Present) {
        self.present = present;
    }
    #[inline]
    fn read(&mut self, field: FieldRef) {
        self.read.set(field.id, true);
    }
    #[inline]
    fn changed(&mut self, field: FieldRef) {
        self.changed.set(field.id, true);
    }
}
