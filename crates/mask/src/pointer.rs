//! Field patterns: JSON pointers (RFC 6901) with `*` for one step and `**` for any depth.
//!
//! A step that is exactly `*` or `**` is a wildcard; RFC 6901 leaves no spelling for a key of that
//! name, and masking every sibling of such a key is the safe reading.

use core::fmt;
use core::str::FromStr;

use moat_model::Code;
use moat_model::code::mask::BAD_POINTER;

/// Longest pattern, in bytes.
pub(crate) const PATTERN_BYTES_MAX: usize = 1024;
/// Longest key a pattern may name, in bytes of UTF-8 after unescaping.
pub(crate) const KEY_BYTES_MAX: usize = 128;

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An object key or an array index, in lower-case ASCII.
    Key(String),
    /// `*`: any one key or index.
    Any,
    /// `**`: any number of steps, none included.
    Deep,
}

/// A parsed field pattern, for example `/to/account`, `/items/*/card` or `/**/card`.
///
/// Keys are compared without regard to ASCII case: some decoders accept `PAN` for `pan`, and
/// masking too much is safe. The empty pattern names the whole document (RFC 6901 §5).
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    steps: Vec<Step>,
}

impl Pattern {
    /// `/**`: every field.
    pub(crate) fn everywhere() -> Pattern {
        Pattern { text: "/**".to_owned(), steps: vec![Step::Deep] }
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no field pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It is neither empty nor starts with `/` (RFC 6901 §3).
    NoSlash,
    /// A `~` is followed by something other than `0` or `1` (RFC 6901 §3). Holds the step's number,
    /// from 1.
    BadEscape(usize),
    /// A step mixes `*` with other characters. Holds the step's number, from 1.
    PartialWildcard(usize),
    /// The pattern, or one of its keys, is longer than allowed. Holds the bound in bytes.
    TooLong(usize),
    /// There are more steps than a document may be deep. Holds the bound.
    TooManySteps(usize),
}

impl PatternError {
    /// The stable code, always `MOAT-M020`.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        &BAD_POINTER
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternError::NoSlash => f.write_str("a field path starts with `/`"),
            PatternError::BadEscape(step) => {
                write!(f, "step {step}: `~` must be written `~0`, and `/` in a key `~1`")
            }
            PatternError::PartialWildcard(step) => {
                write!(f, "step {step}: `*` and `**` stand alone; part of a key cannot be matched")
            }
            PatternError::TooLong(max) => write!(f, "longer than {max} bytes"),
            PatternError::TooManySteps(max) => write!(f, "more than {max} steps"),
        }
    }
}

impl core::error::Error for PatternError {}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong(PATTERN_BYTES_MAX));
        }
        let mut steps = Vec::new();
        if !text.is_empty() {
            let rest = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
            for (index, part) in rest.split('/').enumerate() {
                let step = parse_step(part, index + 1)?;
                // `**/**` is `**`: the automaton relies on no two in a row.
                if step != Step::Deep || steps.last() != Some(&Step::Deep) {
                    steps.push(step);
                }
            }
        }
        let max = moat_model::limit::JSON_DEPTH_MAX;
        if steps.len() > max {
            return Err(PatternError::TooManySteps(max));
        }
        Ok(Pattern { text: text.to_owned(), steps })
    }
}

fn parse_step(part: &str, number: usize) -> Result<Step, PatternError> {
    match part {
        "*" => return Ok(Step::Any),
        "**" => return Ok(Step::Deep),
        _ if part.contains('*') => return Err(PatternError::PartialWildcard(number)),
        _ => {}
    }
    let mut key = String::with_capacity(part.len());
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(PatternError::BadEscape(number)),
            },
            other => other,
        };
        key.push(c.to_ascii_lowercase());
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(PatternError::TooLong(KEY_BYTES_MAX));
    }
    Ok(Step::Key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        text.parse::<Pattern>().expect(text).steps
    }

    fn key(text: &str) -> Step {
        Step::Key(text.into())
    }

    #[test]
    fn pointers_are_read_as_rfc_6901_says() {
        assert_eq!(steps(""), []);
        assert_eq!(steps("/"), [key("")]);
        assert_eq!(steps("/To/account"), [key("to"), key("account")]);
        assert_eq!(steps("/a~1b/m~0n/~01"), [key("a/b"), key("m~n"), key("~1")]);
        assert_eq!(steps("/list/0"), [key("list"), key("0")]);
        assert_eq!(steps("/收款/账号"), [key("收款"), key("账号")]);
    }

    #[test]
    fn wildcards_stand_alone_and_repeats_collapse() {
        assert_eq!(steps("/*/card"), [Step::Any, key("card")]);
        assert_eq!(steps("/**/**/card"), [Step::Deep, key("card")]);
        assert_eq!("/a*".parse::<Pattern>(), Err(PatternError::PartialWildcard(1)));
        assert_eq!("/x/***".parse::<Pattern>(), Err(PatternError::PartialWildcard(2)));
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        assert_eq!("card".parse::<Pattern>(), Err(PatternError::NoSlash));
        assert_eq!("#/card".parse::<Pattern>(), Err(PatternError::NoSlash));
        assert_eq!("$.card".parse::<Pattern>(), Err(PatternError::NoSlash));
        assert_eq!("/a/~".parse::<Pattern>(), Err(PatternError::BadEscape(2)));
        assert_eq!("/a~2".parse::<Pattern>(), Err(PatternError::BadEscape(1)));
        assert_eq!("/a".repeat(65).parse::<Pattern>(), Err(PatternError::TooManySteps(64)));
        assert_eq!(
            format!("/{}", "k".repeat(129)).parse::<Pattern>(),
            Err(PatternError::TooLong(KEY_BYTES_MAX))
        );
        assert_eq!("/a".repeat(600).parse::<Pattern>(), Err(PatternError::TooLong(1024)));
        assert_eq!(PatternError::NoSlash.code().id, "MOAT-M020");
    }
}
