//! A second reading of the rules: whole messages as text, slow and without states.
//!
//! Written apart from the guard, to disagree with it where one of the two is wrong.

use core::net::Ipv6Addr;

/// What a stream of requests is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// So many complete messages and nothing else.
    Complete(u64),
    /// Good so far, but something is still missing.
    Open,
    /// The message with this index is bad, in its body or not.
    Bad(u64, bool),
}

/// How a good message ends.
enum End {
    Head,
    Bytes(usize),
    Chunks,
}

pub(super) fn read(stream: &[u8]) -> Reading {
    let text: String = stream.iter().copied().map(char::from).collect();
    let mut rest: Vec<char> = text.chars().collect();
    let mut index = 0;
    let mut last = false;
    loop {
        if rest.is_empty() {
            return Reading::Complete(index);
        }
        if rest == ['\r'] {
            // Half an empty line, which may stand behind any message.
            return Reading::Open;
        }
        if rest.starts_with(&['\r', '\n']) {
            rest.drain(..2);
            if rest.is_empty() {
                return Reading::Open;
            }
        }
        if last || rest.starts_with(&['\r', '\n']) {
            return Reading::Bad(index, false);
        }
        let text: String = rest.iter().collect();
        let Some((head, after)) = text.split_once("\r\n\r\n") else { return Reading::Open };
        let Some((end, close)) = read_head(head) else { return Reading::Bad(index, false) };
        last = close;
        let after = match end {
            End::Head => Ok(after.to_owned()),
            End::Bytes(bytes) if after.chars().count() < bytes => return Reading::Open,
            End::Bytes(bytes) => Ok(after.chars().skip(bytes).collect()),
            End::Chunks => read_chunks(after),
        };
        match after {
            Ok(after) => rest = after.chars().collect(),
            Err(true) => return Reading::Bad(index, true),
            Err(false) => return Reading::Open,
        }
        index += 1;
    }
}

fn token(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(c))
}

fn clean(line: &str) -> bool {
    line.chars().all(|c| c == '\t' || (c >= ' ' && c != '\x7f'))
}

fn ows(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn read_fields(lines: &[&str]) -> Option<Vec<(String, String)>> {
    let fields = lines.iter().map(|line| {
        let (name, value) = line.split_once(':')?;
        (clean(line) && token(name)).then(|| (name.to_lowercase(), ows(value).to_owned()))
    });
    fields.collect::<Option<Vec<_>>>().filter(|fields| fields.len() <= 100)
}

fn protected(name: &str) -> bool {
    let names = "host content-length transfer-encoding authorization cookie forwarded x-real-ip \
                 idempotency-key";
    names.split(' ').any(|n| n == name)
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-moat-")
}

fn host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let port_good = port.is_none_or(|port| {
        port.chars().all(|c| c.is_ascii_digit())
            && port.len() <= 5
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name_good = match inside {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let chars = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let dotted = format!(".{}", name.trim_end_matches('.'));
            name.chars().all(chars)
                && !dotted.contains("..")
                && !name.ends_with("..")
                && dotted.len() > 1
                && name.len() <= 255
        }
    };
    port_good && name_good
}

/// The end of the message and whether it is the last one, if the head is good.
fn read_head(head: &str) -> Option<(End, bool)> {
    if head.chars().count() + 4 > 16 * 1024 {
        return None;
    }
    let lines: Vec<&str> = head.split("\r\n").collect();
    let parts: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let banned = ["CONNECT", "TRACE"].contains(&method.to_uppercase().as_str());
    let target_chars = target.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if !token(method) || banned || !target_chars || target.len() > 8192 || lines[0].contains('\t') {
        return None;
    }
    if !["HTTP/1.0", "HTTP/1.1"].contains(&version) {
        return None;
    }
    let fields = read_fields(&lines[1..])?;
    let all = |name: &str| -> Vec<String> {
        fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    };
    let hosts = all("host");
    let [authority] = &hosts[..] else { return None };
    if !host(authority) {
        return None;
    }
    let lower = target.to_lowercase();
    let absolute = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    match absolute {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            if rest[..end] != authority.to_lowercase() {
                return None;
            }
        }
        None if target.starts_with('/') => {}
        None if target == "*" && method == "OPTIONS" => {}
        None => return None,
    }
    let options: Vec<String> = all("connection")
        .join(",")
        .split(',')
        .map(|option| ows(option).to_lowercase())
        .filter(|option| !option.is_empty())
        .collect();
    if !all("upgrade").is_empty() || options.iter().any(|o| !token(o) || protected(o)) {
        return None;
    }
    let has = |option: &str| options.iter().any(|o| o == option);
    let close = has("close") || (version == "HTTP/1.0" && !has("keep-alive"));
    let end = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => End::Head,
        ([length], []) => {
            let number: i64 = length.parse().ok()?;
            if number.to_string() != *length || number < 0 {
                return None;
            }
            End::Bytes(usize::try_from(number).ok()?)
        }
        ([], [coding]) if coding.to_lowercase() == "chunked" && version == "HTTP/1.1" => {
            End::Chunks
        }
        _ => return None,
    };
    Some((end, close))
}

/// What follows a chunked body; otherwise whether it is bad (or just not complete).
fn read_chunks(mut text: &str) -> Result<String, bool> {
    loop {
        let (line, after) = text.split_once("\r\n").ok_or(false)?;
        let (size, extension) = match line.find(';') {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        let hex = (1..=16).contains(&size.len()) && size.chars().all(|c| c.is_ascii_hexdigit());
        if !hex || extension.chars().count() > 256 || !clean(line) || !extensions(extension) {
            return Err(true);
        }
        let size = i64::from_str_radix(size, 16).map_err(|_| true)?;
        let size = usize::try_from(size).map_err(|_| true)?;
        if size == 0 {
            return read_trailers(after);
        }
        let data: String = after.chars().take(size).collect();
        let after = &after[data.len()..];
        if data.chars().count() < size || after.is_empty() || after == "\r" {
            return Err(false);
        }
        text = after.strip_prefix("\r\n").ok_or(true)?;
    }
}

fn read_trailers(text: &str) -> Result<String, bool> {
    if let Some(after) = text.strip_prefix("\r\n") {
        return Ok(after.to_owned());
    }
    let (section, after) = text.split_once("\r\n\r\n").ok_or(false)?;
    let fields = read_fields(&section.split("\r\n").collect::<Vec<_>>()).ok_or(true)?;
    let head_only = "connection keep-alive proxy-connection te trailer upgrade expect \
                     content-encoding content-type content-range";
    let bad = |name: &str| protected(name) || head_only.split(' ').any(|n| n == name);
    if fields.iter().any(|(name, _)| bad(name)) || section.chars().count() + 4 > 16 * 1024 {
        return Err(true);
    }
    Ok(after.to_owned())
}

/// Extensions, by taking quoted strings out first and then splitting.
fn extensions(text: &str) -> bool {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            plain.push(c);
            continue;
        }
        if !plain.ends_with('=') {
            return false;
        }
        loop {
            match chars.next() {
                None => return false,
                Some('"') => break,
                Some('\\') if chars.next().is_none() => return false,
                Some(_) => {}
            }
        }
        // A name stands for the string; another character right after it spoils the name.
        plain.push_str("q,");
    }
    let value = |value: &str| token(value) || value == "q,";
    plain.is_empty()
        || plain.strip_prefix(';').is_some_and(|plain| {
            plain.split(';').all(|part| match part.split_once('=') {
                Some((name, text)) => token(name) && value(text),
                None => token(part),
            })
        })
}
