//! Postal addresses: shown down to the district, found by its suffix. What has no recognisable
//! district is hidden whole; guessing from the length would show street names.

use super::is_han;
use crate::strategy::Show;

const PROVINCES: [&str; 4] = ["特别行政区", "自治区", "省", "市"];
const CITIES: [&str; 4] = ["自治州", "地区", "市", "盟"];
const DISTRICTS: [&str; 4] = ["区", "县", "旗", "市"];
/// Words that end like a district and are none.
const FALSE_DISTRICTS: [&str; 9] =
    ["小区", "社区", "园区", "校区", "厂区", "院区", "景区", "片区", "宿舍区"];
/// Characters of street addresses; a district's name may start with one (路南区, 道里区).
const STREET: [char; 11] = ['路', '街', '道', '巷', '弄', '号', '栋', '幢', '室', '村', '镇'];
/// Longest name of one level, in characters (克孜勒苏柯尔克孜自治州 has eleven).
const LEVEL_CHARS_MAX: usize = 12;

/// The text up to the end of the first level in `suffixes`, and what follows.
fn level<'a>(text: &'a str, suffixes: &[&str]) -> Option<(&'a str, &'a str)> {
    for (count, (start, c)) in text.char_indices().enumerate() {
        if count >= LEVEL_CHARS_MAX || !is_han(c) {
            return None;
        }
        let tail = text.get(start..)?;
        // A suffix needs a name in front of it: 市 alone is not a city.
        let suffix = suffixes.iter().find(|suffix| count > 0 && tail.starts_with(**suffix));
        if let Some(suffix) = suffix {
            return text.split_at_checked(start + suffix.len());
        }
    }
    None
}

/// The text up to the end of the district, if it names a province or city before it.
#[must_use]
pub fn to_district(text: &str) -> Option<&str> {
    let (province, after) = level(text, &PROVINCES)?;
    let rest = if province.ends_with('市') {
        district(after)?
    } else {
        let (city, below) = level(after, &CITIES)?;
        // The one city whose name ends like a town.
        let plausible = city == "景德镇市" || !has_street(city);
        district(below).filter(|_| plausible)?
    };
    text.get(..text.len() - rest.len())
}

/// What follows the district at the start of `text`.
fn district(text: &str) -> Option<&str> {
    let (name, rest) = level(text, &DISTRICTS)?;
    let plausible =
        !has_street(name) && !FALSE_DISTRICTS.iter().any(|suffix| name.ends_with(suffix));
    plausible.then_some(rest)
}

fn has_street(name: &str) -> bool {
    name.chars().skip(1).any(|c| STREET.contains(&c))
}

/// Down to the district, or strictly the province, then `***`.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let text = text.trim();
    let shown = match show {
        Show::Normal => to_district(text),
        Show::Strict => {
            let province = level(text, &PROVINCES).filter(|(name, _)| !has_street(name));
            province.map(|(name, _)| name)
        }
    };
    let Some(shown) = shown else { return false };
    out.push_str(shown);
    out.push_str("***");
    true
}
