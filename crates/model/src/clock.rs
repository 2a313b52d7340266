//! Time as an argument. Everything that needs the time takes a [`Clock`].

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock and a monotonic clock, both in nanoseconds.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970-01-01T00:00:00Z. May step back.
    fn wall_ns(&self) -> u64;
    /// Nanoseconds since some fixed point of this boot. Never steps back.
    fn mono_ns(&self) -> u64;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct System {
    start: Instant,
}

impl System {
    /// A clock whose monotonic side starts at zero now.
    #[must_use]
    pub fn new() -> System {
        System { start: Instant::now() }
    }
}

impl Default for System {
    fn default() -> System {
        System::new()
    }
}

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn wall_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct Manual {
    now: Mutex<(u64, u64)>,
}

impl Manual {
    /// A clock at the given wall and monotonic time, both in nanoseconds.
    #[must_use]
    pub fn at(wall_ns: u64, mono_ns: u64) -> Manual {
        Manual { now: Mutex::new((wall_ns, mono_ns)) }
    }

    /// Sets both times; the wall clock may go back, as a real one may.
    pub fn set(&self, wall_ns: u64, mono_ns: u64) {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (wall_ns, mono_ns);
    }

    fn get(&self) -> (u64, u64) {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for Manual {
    fn wall_ns(&self) -> u64 {
        self.get().0
    }

    fn mono_ns(&self) -> u64 {
        self.get().1
    }
}

/// `wall_ns` as RFC 3339 text in UTC with milliseconds, for people.
#[must_use]
pub fn rfc3339_ms(wall_ns: u64) -> String {
    let (days, second_of_day) = (wall_ns / 86_400_000_000_000, wall_ns / 1_000_000_000 % 86_400);
    let (year, month, day) = civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
        wall_ns / 1_000_000 % 1000
    )
}

/// The proleptic Gregorian date of a day count from 1970-01-01.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Eras of 400 years starting on 0000-03-01, so that the leap day ends a year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_text_of_known_moments() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(951_782_400_123_000_000), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339_ms(1_735_689_599_999_999_999), "2024-12-31T23:59:59.999Z");
        assert_eq!(rfc3339_ms(1_795_392_000_000_000_000), "2026-11-23T00:00:00.000Z");
    }

    #[test]
    fn a_manual_clock_may_step_back() {
        let clock = Manual::at(10, 1);
        clock.set(5, 2);
        assert_eq!((clock.wall_ns(), clock.mono_ns()), (5, 2));
    }
}
