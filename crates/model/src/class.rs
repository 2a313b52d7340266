//! How sensitive a field is. A field has a class before it has a mask.

use core::fmt;
use core::str::FromStr;

/// Sensitivity of one field, after JR/T 0171-2020 (C1 to C3) and PCI DSS v4.0.1 (PAN, SAD).
///
/// The order is the order of strictness: where several rules meet one field, the greatest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Internal: kept in clear in the record.
    C1 = 1,
    /// Identifies a person or shows money: masked and anchored in the record.
    C2 = 2,
    /// A primary account number: only a keyed anchor is kept.
    Pan = 3,
    /// Authenticates a person (password, biometrics, key): only a keyed anchor is kept.
    C3 = 4,
    /// Sensitive authentication data (CVV, PIN block, track): never kept, not even hashed.
    Sad = 5,
}

impl Class {
    /// Every class, from the least to the most strict.
    pub const ALL: [Class; 5] = [Class::C1, Class::C2, Class::Pan, Class::C3, Class::Sad];

    /// The name used in configuration and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::C1 => "C1",
            Class::C2 => "C2",
            Class::Pan => "PAN",
            Class::C3 => "C3",
            Class::Sad => "SAD",
        }
    }

    /// The byte that stands for the class in a record.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self as u8
    }

    /// The class that `byte` stands for, if any.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Class> {
        match byte {
            1 => Some(Class::C1),
            2 => Some(Class::C2),
            3 => Some(Class::Pan),
            4 => Some(Class::C3),
            5 => Some(Class::Sad),
            _ => None,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownClass(pub String);

impl fmt::Display for UnknownClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no class; use C1, C2, C3, PAN or SAD", self.0)
    }
}

impl core::error::Error for UnknownClass {}

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Class::ALL
            .into_iter()
            .find(|class| class.name() == text)
            .ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bytes_come_back_to_the_same_class() {
        for class in Class::ALL {
            assert_eq!(class.name().parse(), Ok(class));
            assert_eq!(Class::from_byte(class.to_byte()), Some(class));
        }
        assert!("c1".parse::<Class>().is_err());
        assert_eq!(Class::from_byte(0), None);
        assert_eq!(Class::from_byte(6), None);
    }
}
