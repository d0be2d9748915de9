//! The walk, the name cache and the mount tree, over a tree in memory.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fstat, mkdirat, mknodat};
use nix::unistd::symlinkat;
use proptest::prelude::*;

use super::memfs::{MemFs, MemFsOptions};
use super::names::NameCache;
use super::walk::{Last, Target, WalkCx, WalkFlags};
use super::*;
use crate::kernel::stop::Errno;
use crate::kernel::time::Clock;

fn tmpfs(dev: u64) -> Arc<MemFs> {
    MemFs::tmpfs(MemFsOptions::new(dev, Arc::new(Clock::new())))
}

fn vfs() -> Vfs {
    Vfs::new(tmpfs(40), b"root", MountFlags::empty())
}

fn args(mode: u32) -> CreateArgs {
    CreateArgs {
        mode,
        uid: 0,
        gid: 0,
        rdev: 0,
    }
}

/// Make something in a directory as the calls do.
fn make(vfs: &Vfs, dir: &Path, name: &[u8], mode: u32) -> Result<Path, Errno> {
    let mut change = NameChange::of(&dir.dentry);
    change.begin();
    let inode = dir.inode().create(name, &args(mode))?;
    Ok(Path {
        mount: dir.mount.clone(),
        dentry: vfs.added(&dir.dentry, name, inode),
    })
}

fn make_dir(vfs: &Vfs, dir: &Path, name: &[u8]) -> Path {
    make(vfs, dir, name, libc::S_IFDIR | 0o755).expect("mkdir")
}

fn make_link(vfs: &Vfs, dir: &Path, name: &[u8], target: &[u8]) -> Result<(), Errno> {
    let inode = dir.inode().symlink(name, target, &args(libc::S_IFLNK | 0o777))?;
    vfs.added(&dir.dentry, name, inode);
    Ok(())
}

fn unlink(vfs: &Vfs, dir: &Path, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
    let mut change = NameChange::of(&dir.dentry);
    let victim = vfs.child(&dir.dentry, name)?;
    change.begin();
    dir.inode().unlink(name, false)?;
    vfs.removed(&dir.dentry, name, victim.clone());
    Ok(victim)
}

/// What moved, and whether it was exchanged, which is done if it can be when asked for.
fn rename(
    vfs: &Vfs,
    from: (&Path, &[u8]),
    to: (&Path, &[u8]),
    exchange: bool,
) -> Result<(Arc<Dentry>, bool), Errno> {
    let mut change = NameChange::of_two(&from.0.dentry, &to.0.dentry);
    let moving = vfs.child(&from.0.dentry, from.1)?;
    let there = vfs.child(&to.0.dentry, to.1).ok();
    let exchange = exchange && there.is_some();
    let flags = if exchange { libc::RENAME_EXCHANGE } else { 0 };
    change.begin();
    from.0.inode().rename(from.1, to.0.inode(), to.1, flags)?;
    let (from, to) = ((&from.0.dentry, from.1), (&to.0.dentry, to.1));
    vfs.moved(from, to, &moving, there.as_ref(), exchange);
    Ok((moving, exchange))
}

fn look(vfs: &Vfs, path: &[u8]) -> Result<Path, Errno> {
    WalkCx::at_root(vfs).lookup(None, path, WalkFlags::FOLLOW)
}

/// One node of the trees that are compared.
#[derive(Clone, Debug)]
enum Node {
    Dir,
    File,
    Link(String),
}

fn component() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        5 => Just("a"), 5 => Just("b"), 3 => Just("c"), 2 => Just("l"), 2 => Just("m"),
        1 => Just("missing"), 2 => Just(".."), 1 => Just(".")
    ]
}

fn path_text() -> impl Strategy<Value = String> {
    let body = prop::collection::vec(component(), 1..6);
    (
        any::<bool>(),
        body,
        prop_oneof![3 => Just(""), 1 => Just("/"), 1 => Just("//")],
        any::<bool>(),
    )
        .prop_map(|(absolute, body, tail, doubled)| {
            let text = body.join(if doubled { "//" } else { "/" });
            format!("{}{text}{tail}", if absolute { "/" } else { "" })
        })
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![3 => Just(Node::Dir), 1 => Just(Node::File), 3 => path_text().prop_map(Node::Link)]
}

/// Nodes to make: in which of the directories made so far, under what name.
fn tree() -> impl Strategy<Value = Vec<(usize, &'static str, Node)>> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("l"), Just("m")];
    prop::collection::vec((0usize..8, name, node()), 1..24)
}

/// The same tree twice: in a host directory and in memory, with the nodes' inode numbers by index.
struct Twins {
    _dir: HostDir,
    root: OwnedFd,
    vfs: Vfs,
    host: HashMap<u64, usize>,
    ours: HashMap<u64, usize>,
}

/// A directory of the host's that goes with its owner.
struct HostDir(std::path::PathBuf);

impl HostDir {
    fn new() -> HostDir {
        let base = std::env::temp_dir().join("uvm-walk-XXXXXX");
        HostDir(nix::unistd::mkdtemp(&base).expect("mkdtemp"))
    }
}

impl Drop for HostDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open_host(dir: &OwnedFd, name: &str) -> OwnedFd {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW);
    openat2(dir, name, how).expect("open what was just made")
}

fn ino(fd: &impl AsFd) -> u64 {
    fstat(fd).expect("fstat").st_ino
}

fn our_ino(path: &Path) -> u64 {
    path.inode().metadata().expect("metadata").ino
}

impl Twins {
    fn new(nodes: &[(usize, &'static str, Node)]) -> Twins {
        let dir = HostDir::new();
        let root = open(&dir.0, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).expect("open");
        let vfs = vfs();
        let mut host_dirs = vec![root.try_clone().expect("dup")];
        let mut our_dirs = vec![vfs.mounts.root()];
        let mut host = HashMap::from([(ino(&root), 0)]);
        let mut ours = HashMap::from([(our_ino(&our_dirs[0]), 0)]);
        for (index, (at, name, node)) in nodes.iter().enumerate() {
            let at = at % host_dirs.len();
            let (parent, our_parent) = (&host_dirs[at], our_dirs[at].clone());
            let made = match node {
                Node::Dir => mkdirat(parent, *name, Mode::from_bits_truncate(0o755)),
                Node::File => mknodat(
                    parent,
                    *name,
                    nix::sys::stat::SFlag::S_IFREG,
                    Mode::from_bits_truncate(0o644),
                    0,
                ),
                Node::Link(target) => symlinkat(target.as_str(), parent, *name),
            };
            let name_bytes = name.as_bytes();
            let ours_made = match node {
                Node::Dir => make(&vfs, &our_parent, name_bytes, libc::S_IFDIR | 0o755).map(drop),
                Node::File => make(&vfs, &our_parent, name_bytes, libc::S_IFREG | 0o644).map(drop),
                Node::Link(target) => make_link(&vfs, &our_parent, name_bytes, target.as_bytes()),
            };
            assert_eq!(made, ours_made);
            if made.is_err() {
                continue;
            }
            let fd = open_host(parent, name);
            let walk = WalkCx::at_root(&vfs);
            let path = walk.child(&our_parent, name_bytes).expect("just made");
            host.insert(ino(&fd), index + 1);
            ours.insert(our_ino(&path), index + 1);
            if matches!(node, Node::Dir) {
                host_dirs.push(fd);
                our_dirs.push(path);
            }
        }
        Twins {
            _dir: dir,
            root,
            vfs,
            host,
            ours,
        }
    }

    fn on_host(&self, path: &str, follow: bool, resolve: ResolveFlag) -> Result<usize, Errno> {
        let mut flags = OFlag::O_PATH;
        flags.set(OFlag::O_NOFOLLOW, !follow);
        let how = OpenHow::new().flags(flags).resolve(resolve);
        loop {
            match openat2(&self.root, path, how) {
                // Something was renamed or mounted meanwhile, anywhere on this machine.
                Err(Errno::EAGAIN) => {}
                found => return found.map(|fd| self.host[&ino(&fd)]),
            }
        }
    }

    fn here(&self, path: &str, follow: bool, flags: WalkFlags) -> Result<usize, Errno> {
        let mut flags = flags;
        flags.set(WalkFlags::FOLLOW, follow);
        let walk = WalkCx::at_root(&self.vfs);
        let found = walk.lookup(None, path.as_bytes(), flags)?;
        Ok(self.ours[&our_ino(&found)])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn paths_lead_where_they_lead_on_the_host(
        nodes in tree(),
        paths in prop::collection::vec((path_text(), any::<bool>()), 1..30),
    ) {
        let twins = Twins::new(&nodes);
        let in_root = ResolveFlag::RESOLVE_IN_ROOT;
        let cases = [
            // Plain walks in a root of their own are what RESOLVE_IN_ROOT makes of the host's.
            (in_root, WalkFlags::empty()),
            (in_root, WalkFlags::IN_ROOT),
            (ResolveFlag::RESOLVE_BENEATH, WalkFlags::BENEATH),
            (in_root | ResolveFlag::RESOLVE_NO_SYMLINKS, WalkFlags::NO_SYMLINKS),
        ];
        for (path, follow) in paths {
            for (resolve, flags) in cases {
                let wanted = twins.on_host(&path, follow, resolve);
                let got = twins.here(&path, follow, flags);
                prop_assert_eq!(got, wanted, "{} follow={} {:?}", path, follow, flags);
            }
        }
    }

    /// A cache of three names tells of a directory what a map does, whatever comes and goes.
    #[test]
    fn the_name_cache_is_never_wrong(ops in prop::collection::vec((0u8..5, 0u8..6, 0u8..6), 1..200)) {
        let mut vfs = vfs();
        vfs.names = NameCache::new(3);
        let root = vfs.mounts.root();
        let other = make_dir(&vfs, &root, b"other");
        let dirs = [root.clone(), other];
        let mut model: HashMap<(usize, u8), u64> = HashMap::new();
        let name = |n: u8| vec![b'a' + n];
        for (op, a, b) in ops {
            let (dir, to) = (&dirs[usize::from(a) % 2], &dirs[usize::from(b) % 2]);
            let (key, to_key) = ((usize::from(a) % 2, a), (usize::from(b) % 2, b));
            match op {
                0 => {
                    let made = make(&vfs, dir, &name(a), libc::S_IFREG | 0o644);
                    prop_assert_eq!(made.is_ok(), !model.contains_key(&key));
                    if let Ok(made) = made {
                        model.insert(key, our_ino(&made));
                    }
                }
                1 => if let Ok(victim) = unlink(&vfs, dir, &name(a)) {
                    prop_assert!(model.remove(&key).is_some());
                    prop_assert!(victim.is_unlinked());
                }
                2 | 3 if key != to_key => if let Ok((moving, exchange)) =
                    rename(&vfs, (dir, &name(a)), (to, &name(b)), op == 3)
                {
                    prop_assert_eq!(moving.name(), name(b));
                    let number = model.remove(&key).expect("in the model too");
                    let old = model.insert(to_key, number);
                    if let (true, Some(old)) = (exchange, old) {
                        model.insert(key, old);
                    }
                }
                _ => {}
            }
            prop_assert!(vfs.names.len() <= 3);
            for n in 0..6 {
                let which = usize::from(n) % 2;
                let found = vfs.child(&dirs[which].dentry, &name(n));
                let number = found.ok().map(|d| d.inode.metadata().expect("metadata").ino);
                prop_assert_eq!(number, model.get(&(which, n)).copied());
            }
        }
    }
}

/// Several host threads change and look up the same names: in the end what is remembered is what the file system has.
#[test]
fn the_name_cache_stays_true_when_threads_change_names() {
    const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
    const ROUNDS: usize = 2000;
    let vfs = vfs();
    let root = vfs.mounts.root();
    let dirs = [root.clone(), make_dir(&vfs, &root, b"other")];
    let hammer = |seed: usize| {
        let mut state = seed;
        let mut pick = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..ROUNDS {
            let (dir, to) = (&dirs[pick(2)], &dirs[pick(2)]);
            let (name, new) = (NAMES[pick(4)], NAMES[pick(4)]);
            match pick(6) {
                0 => drop(make(&vfs, dir, name, libc::S_IFREG | 0o644)),
                1 => drop(unlink(&vfs, dir, name)),
                2 if !std::ptr::eq(dir, to) || name != new => {
                    drop(rename(&vfs, (dir, name), (to, new), pick(2) == 0));
                }
                _ => drop(vfs.child(&dir.dentry, name)),
            }
        }
    };
    std::thread::scope(|scope| {
        for seed in 1..5 {
            let hammer = &hammer;
            scope.spawn(move || hammer(seed));
        }
    });
    for (dir, name) in dirs.iter().flat_map(|dir| NAMES.map(|name| (dir, name))) {
        let number = |inode: &Arc<dyn Inode>| inode.metadata().expect("metadata").ino;
        let remembered = vfs.child(&dir.dentry, name).map(|dentry| {
            let place = (dentry.name(), dentry.is_unlinked());
            assert_eq!(place, (name.to_vec(), false));
            number(&dentry.inode)
        });
        assert_eq!(remembered, dir.inode().lookup(name).map(|inode| number(&inode)));
    }
}

#[test]
fn the_forty_first_link_is_one_too_many() {
    let vfs = vfs();
    let root = vfs.mounts.root();
    make(&vfs, &root, b"l0", libc::S_IFREG | 0o644).expect("create");
    for n in 1..=41 {
        let target = format!("l{}", n - 1);
        make_link(&vfs, &root, format!("l{n}").as_bytes(), target.as_bytes()).expect("symlink");
    }
    assert!(look(&vfs, b"l40").is_ok());
    assert_eq!(look(&vfs, b"l41").err(), Some(Errno::ELOOP));
}

#[test]
fn lengths_are_limited() {
    let vfs = vfs();
    assert_eq!(look(&vfs, &[b'x'; 255]).err(), Some(Errno::ENOENT));
    assert_eq!(look(&vfs, &[b'x'; 256]).err(), Some(Errno::ENAMETOOLONG));
    assert!(look(&vfs, &[b'/'; 4095]).is_ok());
    assert_eq!(look(&vfs, &[b'/'; 4096]).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(look(&vfs, b"").err(), Some(Errno::ENOENT));
}

#[test]
fn a_dangling_link_says_where_the_file_would_be() {
    let vfs = vfs();
    let root = vfs.mounts.root();
    let dir = make_dir(&vfs, &root, b"d");
    make_link(&vfs, &root, b"link", b"d/new").expect("symlink");
    let walk = WalkCx::at_root(&vfs);
    let Ok(Target::Missing(parent)) = walk.target(None, b"link", WalkFlags::FOLLOW) else {
        panic!("nothing is there");
    };
    assert!(parent.dir.same(&dir));
    assert_eq!(parent.last, Last::Name(b"new".to_vec()));
    assert!(matches!(
        walk.target(None, b"link", WalkFlags::empty()),
        Ok(Target::Found(_))
    ));
}

#[test]
fn mounts_are_crossed_both_ways() {
    let vfs = vfs();
    let root = vfs.mounts.root();
    let below = make_dir(&vfs, &root, b"mnt");
    let hidden = make_dir(&vfs, &below, b"hidden");
    let mount = vfs
        .mounts
        .mount(tmpfs(41), b"none", MountFlags::empty(), below.clone())
        .expect("mount");
    let top = look(&vfs, b"/mnt").expect("lookup");
    assert!(Arc::ptr_eq(&top.mount, &mount) && top.is_mount_root());
    make_dir(&vfs, &top, b"sub");
    assert!(look(&vfs, b"/mnt/sub/../..").expect("lookup").same(&root));
    assert_eq!(look(&vfs, b"/mnt/hidden").err(), Some(Errno::ENOENT));
    // From below the mount `..` comes back to its top.
    let walk = WalkCx::at_root(&vfs);
    assert!(
        walk.lookup(Some(&hidden), b"..", WalkFlags::empty())
            .expect("lookup")
            .same(&top)
    );
    let crossed = walk.lookup(None, b"mnt/sub", WalkFlags::NO_XDEV);
    assert_eq!(crossed.err(), Some(Errno::EXDEV));
    assert_eq!(
        look(&vfs, b"/mnt/sub").expect("lookup").text(&root).text,
        b"/mnt/sub"
    );
    drop((walk, mount));
    assert_eq!(
        vfs.mounts
            .unmount(look(&vfs, b"/mnt").expect("lookup"), false)
            .err(),
        Some(Errno::EBUSY)
    );
    drop(top);
    assert!(
        vfs.mounts
            .unmount(look(&vfs, b"/mnt").expect("lookup"), false)
            .is_ok()
    );
    assert!(look(&vfs, b"/mnt/hidden").is_ok());
}

#[test]
fn a_bind_mount_shows_a_subtree_and_no_more() {
    let vfs = vfs();
    let root = vfs.mounts.root();
    let source = make_dir(&vfs, &make_dir(&vfs, &root, b"a"), b"b");
    make_dir(&vfs, &source, b"c");
    let at = make_dir(&vfs, &root, b"at");
    vfs.mounts.bind(&source, at, false).expect("bind");
    assert!(look(&vfs, b"/at/c/../..").expect("lookup").same(&root));
    let shown = look(&vfs, b"/at/c").expect("lookup");
    assert_eq!(shown.text(&root).text, b"/at/c");
    assert_eq!(shown.mount.root_in_fs(), b"/a/b");
}

#[test]
fn removed_and_unreachable_places_say_so() {
    let vfs = vfs();
    let root = vfs.mounts.root();
    let gone = make_dir(&vfs, &root, b"gone");
    root.inode().unlink(b"gone", true).expect("rmdir");
    vfs.removed(&root.dentry, b"gone", gone.dentry.clone());
    assert_eq!(gone.text(&root).shown(), b"/gone (deleted)");
    let jail = make_dir(&vfs, &root, b"jail");
    let text = make_dir(&vfs, &root, b"outside").text(&jail);
    assert!(!text.reachable);
    assert_eq!(text.text, b"/outside");
}

#[test]
fn a_deep_path_is_released_without_recursion() {
    let vfs = vfs();
    let mut at = vfs.mounts.root();
    for _ in 0..20_000 {
        at = make_dir(&vfs, &at, b"d");
    }
    vfs.names.forget_fs(&at.mount.fs.clone());
    drop(at);
}
