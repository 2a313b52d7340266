//! The field `Date` (RFC 9110 §6.6.1), written once a second.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use moat_model::clock::{Clock, System};

/// See the module. One for each worker.
#[derive(Default)]
pub struct Dates {
    clock: System,
    /// The second, and what stands for it.
    made: RefCell<(u64, String)>,
}

impl Dates {
    /// Lends the date of now.
    pub(crate) fn with<T>(&self, run: impl FnOnce(&[u8]) -> T) -> T {
        let now_s = self.clock.wall_ns() / 1_000_000_000;
        let mut made = self.made.borrow_mut();
        if made.0 != now_s || made.1.is_empty() {
            let now = UNIX_EPOCH + Duration::from_secs(now_s);
            *made = (now_s, httpdate::fmt_http_date(now));
        }
        run(made.1.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_one_of_now() {
        let dates = Dates::default();
        let before = System::new().wall_ns() / 1_000_000_000;
        let text = dates.with(|date| String::from_utf8(date.to_vec()).unwrap());
        let said = httpdate::parse_http_date(&text).unwrap().duration_since(UNIX_EPOCH).unwrap();
        assert!((before..=before + 60).contains(&said.as_secs()), "{text}");
        assert!(text.ends_with(" GMT"));
    }
}
