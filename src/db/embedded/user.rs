//! Which system user runs PostgreSQL: ourselves, or – because PostgreSQL refuses root – somebody with fewer rights.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::Error;

/// Tried in this order; `nobody` is the last resort, because other programs may run as it too.
const NAMES: [&str; 3] = ["postgres", "_postgres", "nobody"];

/// The user that PostgreSQL runs as when the service runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// `None`: PostgreSQL runs as whoever runs the service. `Some`: the service is root and this user runs PostgreSQL.
///
/// A cluster that exists keeps its owner, so a `postgres` user that appears later changes nothing.
///
/// # Errors
/// The cluster belongs to somebody else, or root finds no user to hand it to.
pub(super) fn choose(cluster: &Path) -> Result<Option<ServerUser>, Error> {
    let ours = rustix::process::geteuid();
    let owner = fs::symlink_metadata(cluster).ok().map(|meta| ServerUser { uid: meta.uid(), gid: meta.gid() });
    match (ours.is_root(), owner) {
        (false, Some(owner)) if owner.uid != ours.as_raw() => Err(Error::refused(
            cluster,
            format!("belongs to user {}, this process is user {}; run it as that user", owner.uid, ours.as_raw()),
        )),
        (false, _) => Ok(None),
        (true, Some(owner)) if owner.uid == 0 => Err(Error::refused(
            cluster,
            "belongs to root, and PostgreSQL does not run as root; move it away or give it to the user postgres",
        )),
        (true, Some(owner)) => Ok(Some(owner)),
        (true, None) => look_up().map(Some),
    }
}

fn look_up() -> Result<ServerUser, Error> {
    let path = Path::new("/etc/passwd");
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    NAMES.iter().find_map(|name| find(&text, name)).ok_or_else(|| {
        Error::refused(path, "has neither a user postgres nor nobody, and PostgreSQL does not run as root; add one")
    })
}

/// One user of `passwd(5)`. Root under another name does not count.
fn find(passwd: &str, name: &str) -> Option<ServerUser> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
        (uid != 0).then_some(ServerUser { uid, gid })
    })
}

/// macOS writes the ids of `nobody` as -2.
fn number(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let text = "root:x:0:0::/root:/bin/sh\npostgres2:x:9:9::/:/bin/sh\npostgres:x:101:104:a,b:/var:/bin/sh\n\
                    nobody:*:-2:-2::/:/bin/false\nevil:x:0:0::/:/bin/sh\nshort:x\n";
        assert_eq!(find(text, "postgres"), Some(ServerUser { uid: 101, gid: 104 }));
        assert_eq!(find(text, "nobody"), Some(ServerUser { uid: 4_294_967_294, gid: 4_294_967_294 }));
        assert_eq!(find(text, "evil"), None);
        assert_eq!(find(text, "short"), None);
        assert_eq!(find(text, "absent"), None);
    }
}
