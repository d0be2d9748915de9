//! `-u USER[:GROUP]`: who the first process is, by the guest's own /etc/passwd and /etc/group.

use anyhow::{Result, anyhow, bail};

/// Who the first process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    /// Home directory; `/` when the user has no entry.
    pub(super) home: String,
    /// Login shell, when the user has an entry that names one.
    pub(super) shell: Option<String>,
}

/// Whoever runs uvm, with the same groups. The home directory is that of the environment.
pub(super) fn caller(passwd: &str) -> Result<Identity> {
    let uid = nix::unistd::getuid().as_raw();
    let account = accounts(passwd).find(|a| a.uid == uid);
    let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/'));
    Ok(Identity {
        uid,
        gid: nix::unistd::getgid().as_raw(),
        groups: nix::unistd::getgroups()?.iter().map(|gid| gid.as_raw()).collect(),
        home: home
            .or(account.as_ref().map(|a| a.home.to_owned()))
            .unwrap_or_else(|| "/".to_owned()),
        shell: account.map(|a| a.shell.to_owned()).filter(|s| !s.is_empty()),
    })
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

/// Work out who `spec` (none: root) is. Names must be in the files, numbers need not.
pub(super) fn resolve(spec: Option<&str>, passwd: &str, group: &str) -> Result<Identity> {
    let (user, wanted_group) = match spec.map(|s| s.split_once(':').map_or((s, None), |(u, g)| (u, Some(g))))
    {
        Some((user, group)) => (user, group),
        None => ("0", None),
    };
    if user.is_empty() || wanted_group == Some("") {
        bail!("-u '{}': give USER or USER:GROUP", spec.unwrap_or_default());
    }
    let number = user.parse::<u32>().ok();
    let account = accounts(passwd).find(|a| match number {
        Some(uid) => a.uid == uid,
        None => a.name == user,
    });
    if account.is_none() && number.is_none() {
        bail!("-u '{user}': no such user in the guest's /etc/passwd; give a number or a name from there");
    }
    let uid = account.as_ref().map_or(number.unwrap_or(0), |a| a.uid);
    let gid = match wanted_group {
        Some(name) => group_id(name, group)?,
        None => account.as_ref().map_or(0, |a| a.gid),
    };
    // As initgroups(3), which counts the own group too; naming a group means just that group.
    let groups = match (&account, wanted_group) {
        (Some(account), None) => {
            let others = member_of(account.name, group)
                .into_iter()
                .filter(|other| *other != gid);
            std::iter::once(gid).chain(others).collect()
        }
        _ => Vec::new(),
    };
    let home = account.as_ref().map_or("/", |a| a.home);
    Ok(Identity {
        uid,
        gid,
        groups,
        home: if home.is_empty() { "/" } else { home }.to_owned(),
        shell: account.map(|a| a.shell.to_owned()).filter(|s| !s.is_empty()),
    })
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?;
        Some(Account {
            name,
            uid,
            gid,
            home,
            shell: fields.next().unwrap_or_default(),
        })
    })
}

/// Name, id and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn group_id(name: &str, group: &str) -> Result<u32> {
    let by_name = groups(group).find(|(n, ..)| *n == name).map(|(_, gid, _)| gid);
    by_name.or_else(|| name.parse().ok()).ok_or_else(|| {
        anyhow!("-u: no such group '{name}' in the guest's /etc/group; give a number or a name from there")
    })
}

fn member_of(user: &str, group: &str) -> Vec<u32> {
    groups(group)
        .filter(|(.., members)| members.split(',').any(|m| m == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nann:x:1000:100::/home/ann:/bin/sh\nbroken\nnohome:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nadm:x:4:root,ann\nvideo:x:44:ann\n";

    #[test]
    fn names_numbers_and_groups() {
        let who = |spec| resolve(spec, PASSWD, GROUP).unwrap();
        assert_eq!((who(None).uid, who(None).groups), (0, vec![0, 4]));
        let ann = who(Some("ann"));
        assert_eq!(
            (ann.uid, ann.gid, ann.groups, ann.home.as_str()),
            (1000, 100, vec![100, 4, 44], "/home/ann")
        );
        assert_eq!(who(Some("1000")).shell.as_deref(), Some("/bin/sh"));
        let mixed = who(Some("ann:adm"));
        assert_eq!((mixed.gid, mixed.groups), (4, vec![]));
        let unknown = who(Some("4242:17"));
        assert_eq!((unknown.uid, unknown.gid, unknown.home.as_str()), (4242, 17, "/"));
        assert_eq!(
            (who(Some("nohome")).home.as_str(), who(Some("nohome")).shell),
            ("/", None)
        );
    }

    #[test]
    fn mistakes() {
        for wrong in [
            "nobodyhere",
            "",
            ":",
            "root:",
            ":root",
            "root:nogroup",
            "-1",
            "99999999999",
        ] {
            assert!(resolve(Some(wrong), PASSWD, GROUP).is_err(), "{wrong}");
        }
    }
}
