//! Users by name, from `/etc/passwd`: a static program has no name service switch.

use std::fs;
use std::io;

/// A user that a role becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// The user called `name`, if there is one. A number is a user and group id of its own, for
/// images that hold no `/etc/passwd`; 0 is nobody's.
///
/// # Errors
/// `/etc/passwd` cannot be read.
pub fn find_user(name: &str) -> io::Result<Option<User>> {
    if let Ok(id) = name.parse::<u32>() {
        return Ok((id > 0).then(|| User { name: name.to_owned(), uid: id, gid: id }));
    }
    Ok(fs::read_to_string("/etc/passwd")?.lines().find_map(|line| parse(line, name)))
}

/// `name:password:uid:gid:…` (passwd(5)).
fn parse(line: &str, wanted: &str) -> Option<User> {
    let mut parts = line.split(':');
    let name = parts.next().filter(|name| *name == wanted)?;
    let _password = parts.next()?;
    let uid = parts.next()?.parse().ok()?;
    let gid = parts.next()?.parse().ok()?;
    Some(User { name: name.to_owned(), uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd_are_read_by_exact_name() {
        let user = parse("moat-app:x:991:990::/nonexistent:/usr/sbin/nologin", "moat-app");
        assert_eq!(user.map(|u| (u.uid, u.gid)), Some((991, 990)));
        assert_eq!(find_user("64001").unwrap().map(|u| (u.uid, u.gid)), Some((64001, 64001)));
        assert_eq!(find_user("0").unwrap(), None);
        assert_eq!(parse("moat-app2:x:1:1::", "moat-app"), None);
        assert_eq!(parse("moat-app:x:no:1::", "moat-app"), None);
    }
}
