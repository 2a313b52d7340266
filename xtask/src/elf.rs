//! As much of an ELF file as says how it is linked.
//!
//! Only 64-bit little-endian files, which all our targets have; anything else is an error.

use anyhow::{Context, Result, bail};

#[cfg(test)]
mod tests;

/// How a program is linked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Linkage {
    /// Loaded at any address (`ET_DYN`, `DF_1_PIE`).
    pub(crate) pie: bool,
    /// The loader that the kernel starts first; a static program has none.
    pub(crate) interpreter: Option<String>,
    /// How many shared libraries it asks for.
    pub(crate) libraries: usize,
}

const TYPE_DYN: u16 = 3;
const SEGMENT_DYNAMIC: u32 = 2;
const SEGMENT_INTERPRETER: u32 = 3;
const TAG_NEEDED: u64 = 1;
const TAG_FLAGS_1: u64 = 0x6fff_fffb;
const FLAG_1_PIE: u64 = 0x0800_0000;

/// Reads the headers.
pub(crate) fn linkage(file: &[u8]) -> Result<Linkage> {
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("no 64-bit little-endian ELF file");
    }
    let mut linkage = Linkage { pie: false, interpreter: None, libraries: 0 };
    let (start, size, count) = (u64_at(file, 32)?, u16_at(file, 54)?, u16_at(file, 56)?);
    for index in 0..u64::from(count) {
        let at = usize::try_from(start + index * u64::from(size))?;
        let (offset, length) = (u64_at(file, at + 8)?, u64_at(file, at + 32)?);
        let (offset, length) = (usize::try_from(offset)?, usize::try_from(length)?);
        let content = offset.checked_add(length).and_then(|end| file.get(offset..end));
        match u32_at(file, at)? {
            SEGMENT_INTERPRETER => {
                let text = String::from_utf8_lossy(content.context("cut off")?);
                linkage.interpreter = Some(text.trim_end_matches('\0').to_owned());
            }
            SEGMENT_DYNAMIC => dynamic(content.context("cut off")?, &mut linkage)?,
            _ => {}
        }
    }
    linkage.pie &= u16_at(file, 16)? == TYPE_DYN;
    Ok(linkage)
}

/// Reads the dynamic section: pairs of tag and value.
fn dynamic(section: &[u8], linkage: &mut Linkage) -> Result<()> {
    for entry in section.chunks_exact(16) {
        let (tag, value) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
        match tag {
            TAG_NEEDED => linkage.libraries += 1,
            TAG_FLAGS_1 => linkage.pie = value & FLAG_1_PIE != 0,
            _ => {}
        }
    }
    Ok(())
}

fn array_at<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let rest = file.get(at..).context("cut off")?;
    rest.first_chunk::<N>().copied().context("cut off")
}

fn u16_at(file: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array_at(file, at)?))
}

fn u32_at(file: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(array_at(file, at)?))
}

fn u64_at(file: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array_at(file, at)?))
}
