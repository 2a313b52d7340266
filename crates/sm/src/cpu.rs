//! Which instructions may be used. A [`Cpu`] exists only for what this processor has, so holding
//! one is the proof that the functions behind it may be called.
//!
//! The environment variable `MOAT_CPU` (`portable`, `avx2`, `avx512`) names one for the process,
//! so that a test machine can try every path. It is read once, here and nowhere else.

/// A set of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain integer arithmetic; any processor.
    Portable,
    /// AVX2, AES-NI, PCLMULQDQ, BMI2.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL), GFNI, VPCLMULQDQ, besides those of [`Level::Avx2`].
    Avx512,
}

impl Level {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The name that `MOAT_CPU` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// Why `MOAT_CPU` could not be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// Not a name of a level.
    #[error("MOAT_CPU is none of portable, avx2, avx512")]
    Unknown,
    /// The processor lacks instructions of that level.
    #[error("MOAT_CPU names a level whose instructions this processor lacks")]
    Missing,
}

/// A level that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu(Level);

impl Cpu {
    /// The level that needs nothing.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// The level, if this processor has it.
    pub fn new(level: Level) -> Option<Self> {
        has(level).then_some(Self(level))
    }

    /// Every level this processor has, slowest first.
    pub fn all() -> impl Iterator<Item = Self> {
        Level::ALL.into_iter().filter_map(Self::new)
    }

    /// The best level this processor has.
    pub fn best() -> Self {
        Self::all().last().unwrap_or(Self::PORTABLE)
    }

    /// Which level it is.
    pub const fn level(self) -> Level {
        self.0
    }

    /// The level of this process: that of `MOAT_CPU`, else the best. A value of `MOAT_CPU` that
    /// cannot be followed gives the portable level; [`Cpu::check`] tells why.
    pub fn current() -> Self {
        Self::check().unwrap_or(Self::PORTABLE)
    }

    /// The level of this process, or why `MOAT_CPU` cannot be followed. A program calls this at
    /// its start and stops on an error.
    ///
    /// # Errors
    ///
    /// See [`CpuError`].
    pub fn check() -> Result<Self, CpuError> {
        current()
    }
}

#[cfg(feature = "std")]
fn current() -> Result<Cpu, CpuError> {
    static CURRENT: std::sync::OnceLock<Result<Cpu, CpuError>> = std::sync::OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "the choice is made before any configuration is read, and for tests"
    )]
    *CURRENT.get_or_init(|| match std::env::var("MOAT_CPU") {
        Ok(name) => named(&name),
        Err(std::env::VarError::NotPresent) => Ok(Cpu::best()),
        Err(std::env::VarError::NotUnicode(_)) => Err(CpuError::Unknown),
    })
}

#[cfg(not(feature = "std"))]
fn current() -> Result<Cpu, CpuError> {
    Ok(Cpu::PORTABLE)
}

#[cfg(any(feature = "std", test))]
fn named(name: &str) -> Result<Cpu, CpuError> {
    let level = Level::ALL.into_iter().find(|level| level.name() == name);
    Cpu::new(level.ok_or(CpuError::Unknown)?).ok_or(CpuError::Missing)
}

#[cfg(all(feature = "std", target_arch = "x86_64", not(miri)))]
fn has(level: Level) -> bool {
    use std::is_x86_feature_detected as has;
    let avx2 = || has!("avx2") && has!("aes") && has!("pclmulqdq") && has!("bmi1") && has!("bmi2");
    let avx512 = || {
        has!("avx512f")
            && has!("avx512bw")
            && has!("avx512dq")
            && has!("avx512vl")
            && has!("gfni")
            && has!("vpclmulqdq")
    };
    match level {
        Level::Portable => true,
        Level::Avx2 => avx2(),
        Level::Avx512 => avx2() && avx512(),
    }
}

#[cfg(not(all(feature = "std", target_arch = "x86_64", not(miri))))]
fn has(level: Level) -> bool {
    level == Level::Portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_level_or_a_reason() {
        assert_eq!(named("portable"), Ok(Cpu::PORTABLE));
        assert_eq!(named("AVX2"), Err(CpuError::Unknown));
        assert_eq!(named(""), Err(CpuError::Unknown));
        for level in Level::ALL {
            let expected = Cpu::new(level).ok_or(CpuError::Missing);
            assert_eq!(named(level.name()), expected);
        }
    }

    #[test]
    fn the_best_level_is_the_last_of_all() {
        assert!(Cpu::all().all(|cpu| cpu <= Cpu::best()));
        assert_eq!(Cpu::all().next(), Some(Cpu::PORTABLE));
    }
}
