//! Message types (ISO 8583-1, 4.1): version, class, function, origin.

use crate::ebcdic::{self, Page};

/// A message type: four digits that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mti([u8; 4]);

/// Version of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// ISO 8583:1987.
    V1987,
    /// ISO 8583:1993.
    V1993,
    /// ISO 8583:2003.
    V2003,
    /// Of a nation.
    National,
    /// Of the parties.
    Private,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageClass {
    /// 1: authorisation.
    Authorisation,
    /// 2: financial.
    Financial,
    /// 3: file action.
    FileAction,
    /// 4: reversal or chargeback.
    Reversal,
    /// 5: reconciliation.
    Reconciliation,
    /// 6: administrative.
    Administrative,
    /// 7: fee collection.
    FeeCollection,
    /// 8: network management.
    Network,
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// 0: asks.
    Request,
    /// 1: answers.
    Response,
    /// 2: tells, and must be acknowledged.
    Advice,
    /// 3: acknowledges an advice.
    AdviceResponse,
    /// 4: tells.
    Notification,
    /// 5: acknowledges a notification.
    NotificationAcknowledgement,
    /// 6: orders (2003).
    Instruction,
    /// 7: acknowledges an order (2003).
    InstructionAcknowledgement,
}

impl Function {
    /// Whether it answers another message.
    #[must_use]
    pub fn is_answer(self) -> bool {
        matches!(
            self,
            Function::Response
                | Function::AdviceResponse
                | Function::NotificationAcknowledgement
                | Function::InstructionAcknowledgement
        )
    }
}

impl Mti {
    pub(crate) const ZERO: Mti = Mti(*b"0100");
    /// 0800: a request about the connection itself, in the version of 1987.
    pub const NETWORK_REQUEST: Mti = Mti(*b"0800");

    /// Four ASCII digits; none when they are no message type.
    #[must_use]
    #[inline]
    pub fn new(digits: [u8; 4]) -> Option<Mti> {
        let [version, class, function, origin] = digits;
        let good = matches!(version, b'0' | b'1' | b'2' | b'8' | b'9')
            && matches!(class, b'1'..=b'8')
            && matches!(function, b'0'..=b'7')
            && matches!(origin, b'0'..=b'5');
        good.then_some(Mti(digits))
    }

    #[inline]
    pub(crate) fn from_text(page: Option<Page>, bytes: [u8; 4]) -> Option<Mti> {
        match page {
            None => Mti::new(bytes),
            Some(page) => {
                let table = ebcdic::to_ascii(page);
                let read = |byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
                Mti::new(bytes.map(read))
            }
        }
    }

    pub(crate) fn from_bcd([a, b]: [u8; 2]) -> Option<Mti> {
        let digit = |nibble: u8| if nibble <= 9 { b'0' + nibble } else { 0 };
        Mti::new([digit(a >> 4), digit(a & 15), digit(b >> 4), digit(b & 15)])
    }

    pub(crate) fn to_bcd(self) -> [u8; 2] {
        let [a, b, c, d] = self.0.map(|digit| digit & 15);
        [a << 4 | b, c << 4 | d]
    }

    /// The four ASCII digits.
    #[must_use]
    pub fn digits(self) -> [u8; 4] {
        self.0
    }

    /// The version.
    #[must_use]
    pub fn version(self) -> Version {
        match self.0[0] {
            b'0' => Version::V1987,
            b'1' => Version::V1993,
            b'2' => Version::V2003,
            b'8' => Version::National,
            _ => Version::Private,
        }
    }

    /// The class.
    #[must_use]
    pub fn class(self) -> MessageClass {
        match self.0[1] {
            b'1' => MessageClass::Authorisation,
            b'2' => MessageClass::Financial,
            b'3' => MessageClass::FileAction,
            b'4' => MessageClass::Reversal,
            b'5' => MessageClass::Reconciliation,
            b'6' => MessageClass::Administrative,
            b'7' => MessageClass::FeeCollection,
            _ => MessageClass::Network,
        }
    }

    /// The function.
    #[must_use]
    pub fn function(self) -> Function {
        match self.0[2] {
            b'0' => Function::Request,
            b'1' => Function::Response,
            b'2' => Function::Advice,
            b'3' => Function::AdviceResponse,
            b'4' => Function::Notification,
            b'5' => Function::NotificationAcknowledgement,
            b'6' => Function::Instruction,
            _ => Function::InstructionAcknowledgement,
        }
    }

    /// Whether the originator says that it sent this before: origins 1, 3 and 5.
    #[must_use]
    pub fn is_repeat(self) -> bool {
        matches!(self.0[3], b'1' | b'3' | b'5')
    }

    /// The same type sent for the first time: origins 0, 2 and 4.
    #[must_use]
    pub fn original(self) -> Mti {
        let [version, class, function, origin] = self.0;
        let origin = if self.is_repeat() { origin - 1 } else { origin };
        Mti([version, class, function, origin])
    }

    /// The same type sent again: origins 1, 3 and 5.
    #[must_use]
    pub fn repeat(self) -> Mti {
        let [version, class, function, origin] = self.original().0;
        Mti([version, class, function, origin + 1])
    }

    /// The type of the message that answers this one; none when nothing does.
    #[must_use]
    pub fn answer(self) -> Option<Mti> {
        let [version, class, function, origin] = self.0;
        // A repeat is answered like the first.
        let origin = if self.is_repeat() { origin - 1 } else { origin };
        let asks = matches!(function, b'0' | b'2' | b'4' | b'6');
        asks.then_some(Mti([version, class, function + 1, origin]))
    }
}

impl core::fmt::Display for Mti {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl core::str::FromStr for Mti {
    type Err = crate::MessageError;

    fn from_str(text: &str) -> Result<Mti, crate::MessageError> {
        let digits: Option<[u8; 4]> = text.as_bytes().try_into().ok();
        let wrong = crate::MessageError::new(crate::Reason::Mti, 0, 0);
        digits.and_then(Mti::new).ok_or(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_mean_what_the_standard_says() {
        let mti: Mti = "0201".parse().unwrap();
        assert_eq!((mti.version(), mti.class()), (Version::V1987, MessageClass::Financial));
        assert_eq!((mti.function(), mti.is_repeat()), (Function::Request, true));
        assert_eq!(mti.answer().unwrap().to_string(), "0210");
        assert!("1421".parse::<Mti>().unwrap().answer().unwrap().function().is_answer());
        assert_eq!("0210".parse::<Mti>().unwrap().answer(), None);
        for text in ["0000", "3200", "0900", "0280", "0206", "020", "02000", "02a0", "０２０0"] {
            assert!(text.parse::<Mti>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_type_is_the_same_in_every_encoding() {
        for number in 0..10_000_u16 {
            let text = format!("{number:04}");
            let Ok(mti) = text.parse::<Mti>() else { continue };
            assert_eq!(Mti::from_bcd(mti.to_bcd()), Some(mti));
            let there = mti.digits().map(|d| ebcdic::from_ascii(Page::Cp037, d));
            assert_eq!(Mti::from_text(Some(Page::Cp037), there), Some(mti));
        }
        assert_eq!(Mti::from_bcd([0x02, 0x0a]), None);
    }
}
