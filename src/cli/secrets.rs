//! What `uvm do` keeps from its guest: the list in `secrets.txt`, changed by `--hide` and `--show`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};

const LIST: &str = include_str!("secrets.txt");

/// Paths and variables that a guest does not see.
pub(super) struct Secrets {
    paths: Vec<PathBuf>,
    variables: Vec<String>,
    shown_variables: Vec<String>,
}

/// Where relative paths and `~` lead, and what is never hidden.
pub(super) struct Around {
    pub(super) home: PathBuf,
    pub(super) directory: PathBuf,
}

impl Around {
    /// A path as the user gave it, from the root on, with nothing in it that leads up or nowhere.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.below(&self.home, path)
    }

    /// The same with this home.
    fn below(&self, home: &Path, path: &Path) -> PathBuf {
        let path = match path.strip_prefix("~") {
            Ok(below) => home.join(below),
            Err(_) => self.directory.join(path),
        };
        let mut clean = PathBuf::from("/");
        for part in path.components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => {
                    clean.pop();
                }
                _ => {}
            }
        }
        clean
    }

    /// Homes of which the guest sees a part: what HOME says, what the system says is the caller's, and the one that the present
    /// directory is in.
    fn homes(&self) -> Vec<PathBuf> {
        let own = nix::unistd::User::from_uid(nix::unistd::getuid());
        let mut homes = vec![self.home.clone()];
        homes.extend(own.ok().flatten().map(|user| user.dir));
        let others = expand(Path::new("/home/*")).into_iter().chain(["/root".into()]);
        homes.extend(others.filter(|home| self.is_here(home)));
        homes.sort();
        homes.dedup();
        homes
    }

    /// Whether a path is where the user is, or above that.
    fn is_here(&self, path: &Path) -> bool {
        [&self.home, &self.directory]
            .iter()
            .any(|here| here.starts_with(path))
    }
}

/// Whether a value of --hide and --show means a path, and not a variable.
fn is_path(value: &OsStr) -> bool {
    value.as_bytes().contains(&b'/') || value.as_bytes().first() == Some(&b'~')
}

/// Refuse what means nothing, and the name of a file, which would be taken for that of a variable.
fn check_name(around: &Around, value: &OsStr, option: &str) -> Result<()> {
    let shown = value.display();
    if value.is_empty() {
        bail!("do: {option}: an empty name; give a path with a slash in it, or a variable");
    }
    let is_file = !is_path(value) && around.directory.join(value).symlink_metadata().is_ok();
    if is_file && std::env::var_os(value).is_none() {
        bail!("do: {option} {shown}: no variable has this name; for the file of this name give ./{shown}");
    }
    Ok(())
}

impl Secrets {
    /// The list, with what is to be hidden beside it and shown of it. `written` are paths that the user lets through.
    pub(super) fn new(
        around: &Around,
        hide: &[OsString],
        show: &[OsString],
        written: &[PathBuf],
    ) -> Result<Secrets> {
        let mut secrets = Secrets {
            paths: Vec::new(),
            variables: Vec::new(),
            shown_variables: Vec::new(),
        };
        let homes = around.homes();
        for line in LIST.lines() {
            match line.split_once(' ') {
                Some(("path", path)) => {
                    let found = homes
                        .iter()
                        .flat_map(|home| expand(&around.below(home, Path::new(path))));
                    secrets.paths.extend(found.filter(|path| !around.is_here(path)));
                }
                Some(("env", name)) => secrets.variables.push(name.to_owned()),
                Some(("at", place)) => {
                    let found = pointed(place, &|name| std::env::var_os(name));
                    let found = found.iter().flat_map(|path| expand(&around.absolute(path)));
                    secrets.paths.extend(found.filter(|path| !around.is_here(path)));
                }
                _ => {}
            }
        }
        for value in hide {
            check_name(around, value, "--hide")?;
            if is_path(value) {
                let path = around.absolute(Path::new(value));
                if path == Path::new("/") {
                    anyhow::bail!("do: --hide {}: nothing would be left", value.display());
                }
                secrets.paths.extend(expand(&path));
            } else {
                secrets.variables.push(value.to_string_lossy().into_owned());
            }
        }
        for value in show {
            check_name(around, value, "--show")?;
            if is_path(value) {
                secrets.reveal(&around.absolute(Path::new(value)), "--show")?;
            } else {
                secrets.shown_variables.push(value.to_string_lossy().into_owned());
            }
        }
        for path in written {
            secrets.reveal(path, "--write")?;
        }
        Ok(secrets)
    }

    /// Show a path, which must not be a part of a hidden one.
    fn reveal(&mut self, path: &Path, option: &str) -> Result<()> {
        self.paths.retain(|hidden| hidden != path);
        if let Some(whole) = self.paths.iter().find(|hidden| path.starts_with(hidden)) {
            bail!(
                "do: {option} {}: it is hidden with all of {}; --show that first",
                path.display(),
                whole.display()
            );
        }
        Ok(())
    }

    /// The paths, absolute.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.paths.clone()
    }

    /// Whether a variable is kept back.
    pub(super) fn hides_variable(&self, name: &OsStr, value: &OsStr) -> bool {
        let name = name.as_bytes();
        let is_in = |patterns: &[String]| patterns.iter().any(|p| matches(p.as_bytes(), name));
        (is_in(&self.variables) || has_password(value)) && !is_in(&self.shown_variables)
    }
}

/// Whether a value is a URL that says a password.
fn has_password(value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    let authority = value
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    let user = authority.and_then(|authority| authority.rsplit_once('@'));
    user.is_some_and(|(user, _)| user.contains(':'))
}

/// Where `NAME`, or what is below it with `NAME/BELOW`, leads by the variable NAME: a list of paths.
fn pointed(place: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let (name, below) = place.split_once('/').unwrap_or((place, ""));
    let value = variable(name).unwrap_or_default();
    let parts = value.as_bytes().split(|&byte| byte == b':');
    let paths = parts.filter(|part| !part.is_empty());
    paths
        .map(|part| Path::new(OsStr::from_bytes(part)).join(below))
        .collect()
}

/// The paths that one with a `*` in its last part means; the path itself without one.
fn expand(path: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(pattern)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    if !pattern.as_bytes().contains(&b'*') {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| matches(pattern.as_bytes(), entry.file_name().as_bytes()))
        .map(|entry| entry.path())
        .collect()
}

/// Whether a text is what a pattern says, in which `*` is any text and the case of letters means nothing.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        Some((first, rest)) => {
            text.first().is_some_and(|byte| byte.eq_ignore_ascii_case(first)) && matches(rest, &text[1..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Around {
        Around {
            home: "/home/ann".into(),
            directory: "/home/ann/work".into(),
        }
    }

    #[test]
    fn the_list_is_well_formed() {
        for line in LIST.lines() {
            let known = line.is_empty()
                || ["# ", "path ", "at ", "env "]
                    .iter()
                    .any(|word| line.starts_with(word));
            assert!(known || line == "#", "{line}");
        }
    }

    #[test]
    fn paths_and_variables() {
        let secrets = Secrets::new(&around(), &[], &["GIT_TOKEN".into(), "~/.aws".into()], &[]).unwrap();
        assert!(secrets.paths().contains(&"/home/ann/.ssh".into()));
        assert!(!secrets.paths().contains(&"/home/ann/.aws".into()));
        let hides = |name: &str, value: &str| secrets.hides_variable(OsStr::new(name), OsStr::new(value));
        for hidden in ["NPM_TOKEN", "npm_token", "AWS_X", "DB_PASSWORD", "MY_API_KEY"] {
            assert!(hides(hidden, "x"), "{hidden}");
        }
        for shown in ["GIT_TOKEN", "PATH", "TERM", "KEYMAP", "PWD"] {
            assert!(!hides(shown, "x"), "{shown}");
        }
        assert!(hides("http_proxy", "http://ann:secret@proxy:3128/"));
        assert!(!hides("http_proxy", "http://ann@proxy:3128/:@") && !hides("GIT_TOKEN", "x://a:b@c"));
        assert!(Secrets::new(&around(), &[], &["~/.ssh/config".into()], &[]).is_err());
        assert!(Secrets::new(&around(), &[], &[], &["/home/ann/.ssh/config".into()]).is_err());
    }

    #[test]
    fn places_of_the_environment() {
        let variable = |name: &str| match name {
            "LIST" => Some(OsString::from("/a/b:~/c::")),
            _ => None,
        };
        let paths = |text: &[&str]| text.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(pointed("LIST", &variable), paths(&["/a/b", "~/c"]));
        assert_eq!(pointed("LIST/x*", &variable), paths(&["/a/b/x*", "~/c/x*"]));
        assert_eq!(pointed("NONE/x", &variable), paths(&[]));
    }

    #[test]
    fn absolute_paths() {
        let around = around();
        assert_eq!(around.absolute(Path::new("../x/./y")), Path::new("/home/ann/x/y"));
        assert_eq!(around.absolute(Path::new("~/z")), Path::new("/home/ann/z"));
        assert_eq!(around.absolute(Path::new("/../a")), Path::new("/a"));
        assert!(around.is_here(Path::new("/home/ann")) && !around.is_here(Path::new("/home/bob")));
    }
}
