//! Names of persons: two to four Han characters with a listed compound surname or a single one,
//! or Latin words.

use super::is_han;
use crate::strategy::Show;

/// Compound surnames (复姓) in use; a name of two characters always has a single surname.
const COMPOUND: [&str; 60] = [
    "欧阳", "太史", "端木", "上官", "司马", "东方", "独孤", "南宫", "万俟", "闻人", "夏侯", "诸葛",
    "尉迟", "公羊", "赫连", "澹台", "皇甫", "宗政", "濮阳", "公冶", "太叔", "申屠", "公孙", "慕容",
    "仲孙", "钟离", "长孙", "宇文", "司徒", "鲜于", "司空", "闾丘", "子车", "亓官", "司寇", "巫马",
    "公西", "颛孙", "壤驷", "公良", "漆雕", "乐正", "宰父", "谷梁", "拓跋", "夹谷", "轩辕", "令狐",
    "段干", "百里", "呼延", "东郭", "南门", "羊舌", "微生", "左丘", "西门", "第五", "纳兰", "完颜",
];

/// The surname of a Han name of two to four characters.
#[must_use]
pub fn surname(name: &str) -> Option<&str> {
    let length = name.chars().count();
    if !(2..=4).contains(&length) || !name.chars().all(is_han) {
        return None;
    }
    let compound = COMPOUND.iter().find(|surname| length > 2 && name.starts_with(**surname));
    let bytes = compound.map_or_else(|| name.chars().next().map(char::len_utf8), |s| Some(s.len()));
    name.get(..bytes?)
}

/// The surname and `*`, the first letter of each Latin word and `***`, or strictly `**`. Names of
/// other forms, such as transliterated ones with a dot, are hidden: they have no surname.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    if show == Show::Strict {
        out.push_str("**");
        return true;
    }
    let text = text.trim();
    if let Some(surname) = surname(text) {
        out.push_str(surname);
        out.push('*');
        return true;
    }
    let words = || text.split(' ').filter(|word| !word.is_empty());
    let latin = |word: &str| {
        word.len() > 1 && word.chars().all(|c| c.is_ascii_alphabetic() || "'-.".contains(c))
    };
    if !(1..=5).contains(&words().count()) || !words().all(latin) {
        return false;
    }
    for (place, word) in words().enumerate() {
        out.push_str(if place > 0 { " " } else { "" });
        out.extend(word.chars().next());
        out.push_str("***");
    }
    true
}
