//! Names of places in the program's code.
//!
//! The gateway cannot read its own file any more, and tells offsets into it. Whoever asks runs the
//! same program and finds the names in its own: so only the build that runs can name its places, and
//! one whose symbols were stripped names none.

use backtrace::resolve;

/// `function` or `+offset` for each place, in order; what repeats is left out.
pub(crate) fn names(offsets: &[u64]) -> Vec<String> {
    let Some((begin, end, file)) = moat_kernel::code::of_this_program() else {
        return offsets.iter().map(|offset| format!("+{offset:#x}")).collect();
    };
    let mut names: Vec<String> = Vec::new();
    for offset in offsets {
        let address = offset.checked_sub(file).and_then(|offset| begin.checked_add(offset));
        let known = address.filter(|address| *address < end).and_then(name_of);
        let name = known.unwrap_or_else(|| format!("+{offset:#x}"));
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

fn name_of(address: u64) -> Option<String> {
    let address = usize::try_from(address).ok()?;
    let mut name = None;
    // Several where functions were put into others: the innermost comes first.
    resolve(std::ptr::without_provenance_mut(address), |symbol| {
        if name.is_none() {
            name = symbol.name().map(|name| format!("{name:#}"));
        }
    });
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_this_program_has_its_name_and_one_outside_its_offset() {
        let (begin, _, file) = moat_kernel::code::of_this_program().unwrap();
        let here = a_place_in_this_program_has_its_name_and_one_outside_its_offset as fn();
        // Behind its first instruction: what a stack holds is where calls come back to.
        let offset = u64::try_from(here as usize).unwrap() - begin + file + 4;
        let names = names(&[offset, offset, u64::MAX]);
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].contains("a_place_in_this_program"), "{names:?}");
        assert_eq!(names[1], "+0xffffffffffffffff");
    }
}
